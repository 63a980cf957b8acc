SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.asked (
    payment character varying(64) NOT NULL,
    request text NOT NULL
);
CREATE TABLE public.btt_bridge_revision (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.delivery (
    id integer NOT NULL,
    journey_id integer NOT NULL,
    destination character varying(64) NOT NULL,
    kind character varying(8) NOT NULL,
    sop_class_uid character varying(64) NOT NULL,
    sop_instance_uid character varying(64) NOT NULL,
    key character varying(255) NOT NULL,
    state character varying(16) NOT NULL,
    attempts integer NOT NULL,
    due_at character varying(32),
    delivered_at character varying(32),
    error character varying(255) NOT NULL,
    advice character varying(255) NOT NULL
);
CREATE SEQUENCE public.delivery_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.delivery_id_seq OWNED BY public.delivery.id;
CREATE TABLE public.expectation (
    accession_number character varying(64) NOT NULL,
    instances integer NOT NULL,
    at character varying(32) NOT NULL
);
CREATE TABLE public.identity (
    lookup character varying(64) NOT NULL,
    sealed bytea NOT NULL
);
CREATE TABLE public.identity_key (
    name character varying(16) NOT NULL,
    fingerprint character varying(64) NOT NULL
);
CREATE TABLE public.instance (
    id integer NOT NULL,
    sop_instance_uid character varying(64) NOT NULL,
    sop_class_uid character varying(64) NOT NULL,
    transfer_syntax_uid character varying(64) NOT NULL,
    calling_ae_title character varying(16) NOT NULL,
    called_ae_title character varying(16) NOT NULL,
    peer_address character varying(64) NOT NULL,
    path character varying(255) NOT NULL,
    size_bytes bigint NOT NULL,
    received_at character varying(32) NOT NULL,
    flag character varying(16) NOT NULL,
    study_instance_uid character varying(64) NOT NULL,
    series_instance_uid character varying(64) NOT NULL,
    revision integer NOT NULL
);
CREATE SEQUENCE public.instance_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.instance_id_seq OWNED BY public.instance.id;
CREATE TABLE public.journey (
    id integer NOT NULL,
    study_instance_uid character varying(64) NOT NULL,
    revision integer NOT NULL,
    accession_number character varying(64) NOT NULL,
    calling_ae_title character varying(16) NOT NULL,
    state character varying(16) NOT NULL,
    reason character varying(255) NOT NULL,
    facts json NOT NULL,
    offer_id character varying(64) NOT NULL,
    opened_at character varying(32) NOT NULL,
    changed_at character varying(32) NOT NULL,
    due_at character varying(32),
    attempts integer NOT NULL,
    claim character varying(32) NOT NULL,
    claimed_until character varying(32)
);
CREATE SEQUENCE public.journey_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.journey_id_seq OWNED BY public.journey.id;
CREATE TABLE public.series (
    series_instance_uid character varying(64) NOT NULL,
    study_instance_uid character varying(64) NOT NULL,
    keywords json NOT NULL
);
CREATE TABLE public.step (
    id integer NOT NULL,
    journey_id integer NOT NULL,
    at character varying(32) NOT NULL,
    event character varying(16) NOT NULL,
    from_state character varying(16) NOT NULL,
    to_state character varying(16) NOT NULL,
    reason character varying(255) NOT NULL,
    seconds double precision NOT NULL
);
CREATE SEQUENCE public.step_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.step_id_seq OWNED BY public.step.id;
CREATE TABLE public.swept (
    folder character varying(32) NOT NULL,
    at character varying(32) NOT NULL
);
CREATE TABLE public.told (
    id integer NOT NULL,
    source character varying(40) NOT NULL,
    kind character varying(64) NOT NULL,
    resource_id character varying(64) NOT NULL,
    version character varying(64) NOT NULL,
    updated_at character varying(32) NOT NULL,
    patient character varying(300) NOT NULL,
    deleted boolean NOT NULL,
    content bytea NOT NULL,
    digest character varying(64) NOT NULL,
    received_at character varying(32) NOT NULL,
    state character varying(16) NOT NULL,
    outcome character varying(1000) NOT NULL,
    attempts integer NOT NULL,
    due_at character varying(32)
);
CREATE SEQUENCE public.told_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.told_id_seq OWNED BY public.told.id;
ALTER TABLE ONLY public.delivery ALTER COLUMN id SET DEFAULT nextval('public.delivery_id_seq'::regclass);
ALTER TABLE ONLY public.instance ALTER COLUMN id SET DEFAULT nextval('public.instance_id_seq'::regclass);
ALTER TABLE ONLY public.journey ALTER COLUMN id SET DEFAULT nextval('public.journey_id_seq'::regclass);
ALTER TABLE ONLY public.step ALTER COLUMN id SET DEFAULT nextval('public.step_id_seq'::regclass);
ALTER TABLE ONLY public.told ALTER COLUMN id SET DEFAULT nextval('public.told_id_seq'::regclass);
INSERT INTO public.asked VALUES ('payment', 'Claim/c1');
INSERT INTO public.btt_bridge_revision VALUES ('journal_0001');
INSERT INTO public.btt_bridge_revision VALUES ('inbox_0001');
INSERT INTO public.btt_bridge_revision VALUES ('vault_0001');
INSERT INTO public.delivery VALUES (1, 1, 'pacs', 'SR', '1.2', '1.9', 'key', 'waiting', 0, '2026-01-05T08:00:00.000000Z', NULL, '', '');
INSERT INTO public.expectation VALUES ('A1', 3, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.identity VALUES ('b5bb86b1d0f89c78cb7e97ce9b2ccd935bd5c5506887a9e5121a025248f1a7e7', '\xbc3d5a6c8eee8dd5368e179e9ad089bbc4e845dea594e94f8a752b14ce68460e069c4482562198fd266d3c4663c4aa3b3cd446fcb64b1d5a98a9b505be4c5d4d76e5e30937221e6ec4ebc5c2c9fce0267815303352a0c34ddc03ff1ec8e78a82c221e034462432e5470cff27e5a1a4624b078543c5df12c6f5fef3b98a8c58c14d2b9d0f222ea8cd15efa937e5c10884d763660620421aa6c9c1b03eaf64d9811960a480c6e2694ed3a7c1f7218cf6a11af3c4cecaf14afc7751fb2f5d67b954873ac4e25b106563295f48036d51364f370e28f4e59f7ddaa74d');
INSERT INTO public.identity_key VALUES ('uid', 'd6f8b387bc1dabda8ad7a149b7f7e5e64e2b4df9c510c0287ee2840b91e870db');
INSERT INTO public.identity_key VALUES ('storage', 'b724f6080ff3dc3bbd9d54cf2fc326af321e015483066ba408bd4610a1b520ae');
INSERT INTO public.instance VALUES (4, '1.2.3.0', '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 'CT2', 'B', '::1', 'other.dcm', 9, '2026-01-05T08:00:00.000000Z', 'conflict', '', '', 0);
INSERT INTO public.instance VALUES (1, '1.2.3.0', '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 'CT1', 'BTT_BRIDGE', '127.0.0.1', '0.dcm', 100, '2026-01-05T08:00:00.000000Z', '', '1.2', '1.2.3', 1);
INSERT INTO public.instance VALUES (2, '1.2.3.1', '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 'CT1', 'BTT_BRIDGE', '127.0.0.1', '1.dcm', 100, '2026-01-05T08:00:00.000000Z', '', '1.2', '1.2.3', 1);
INSERT INTO public.instance VALUES (3, '1.2.3.2', '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 'CT1', 'BTT_BRIDGE', '127.0.0.1', '2.dcm', 100, '2026-01-05T08:00:00.000000Z', '', '1.2', '1.2.3', 1);
INSERT INTO public.journey VALUES (1, '1.2', 1, '', 'CT1', 'stripped', '', '{"completed": {"seconds": 1.5}, "matched": {"seconds": 1.5}, "stripped": {"seconds": 1.5}, "offer": {"units": 100}}', '0ffe2', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', 0, '', NULL);
INSERT INTO public.series VALUES ('1.2.3', '1.2', '{"Modality": "CT"}');
INSERT INTO public.step VALUES (1, 1, '2026-01-05T08:00:00.000000Z', 'completed', 'receiving', 'complete', '', 0);
INSERT INTO public.step VALUES (2, 1, '2026-01-05T08:00:00.000000Z', 'matched', 'complete', 'assigned', '', 0);
INSERT INTO public.step VALUES (3, 1, '2026-01-05T08:00:00.000000Z', 'stripped', 'assigned', 'stripped', '', 0);
INSERT INTO public.swept VALUES ('0123456789ab', '2026-01-05T08:00:00.000000Z');
INSERT INTO public.told VALUES (1, 'ehr', 'Appointment', '1', '1', '2026-01-05T08:00:00.000000Z', 'Patient/1', false, '\x00636f6e74656e74', 'd1', '2026-01-05T08:00:00.000000Z', 'waiting', '', 0, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.told VALUES (2, 'ehr', 'Appointment', '1', '2', '2026-01-05T08:00:00.000001Z', 'Patient/1', true, '\x', '', '2026-01-05T08:00:00.000000Z', 'waiting', '', 0, '2026-01-05T08:00:00.000000Z');
SELECT pg_catalog.setval('public.delivery_id_seq', 1, true);
SELECT pg_catalog.setval('public.instance_id_seq', 4, true);
SELECT pg_catalog.setval('public.journey_id_seq', 1, true);
SELECT pg_catalog.setval('public.step_id_seq', 3, true);
SELECT pg_catalog.setval('public.told_id_seq', 2, true);
ALTER TABLE ONLY public.asked
    ADD CONSTRAINT asked_pkey PRIMARY KEY (payment);
ALTER TABLE ONLY public.btt_bridge_revision
    ADD CONSTRAINT btt_bridge_revision_pkey PRIMARY KEY (version_num);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_journey_id_destination_sop_instance_uid_key UNIQUE (journey_id, destination, sop_instance_uid);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.expectation
    ADD CONSTRAINT expectation_pkey PRIMARY KEY (accession_number);
ALTER TABLE ONLY public.identity_key
    ADD CONSTRAINT identity_key_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (lookup);
ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.journey
    ADD CONSTRAINT journey_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.journey
    ADD CONSTRAINT journey_study_instance_uid_revision_key UNIQUE (study_instance_uid, revision);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT series_pkey PRIMARY KEY (series_instance_uid, study_instance_uid);
ALTER TABLE ONLY public.step
    ADD CONSTRAINT step_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.swept
    ADD CONSTRAINT swept_pkey PRIMARY KEY (folder);
ALTER TABLE ONLY public.told
    ADD CONSTRAINT told_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.told
    ADD CONSTRAINT told_source_kind_resource_id_version_key UNIQUE (source, kind, resource_id, version);
CREATE INDEX delivery_due ON public.delivery USING btree (state, due_at);
CREATE INDEX instance_conflict ON public.instance USING btree (sop_instance_uid) WHERE ((flag)::text = 'conflict'::text);
CREATE INDEX instance_in_study ON public.instance USING btree (study_instance_uid, id);
CREATE UNIQUE INDEX instance_in_use ON public.instance USING btree (sop_instance_uid) WHERE ((flag)::text <> ALL ((ARRAY['conflict'::character varying, 'unreadable'::character varying])::text[]));
CREATE UNIQUE INDEX instance_path ON public.instance USING btree (path);
CREATE INDEX instance_unread ON public.instance USING btree (id) WHERE (((flag)::text = ''::text) AND ((study_instance_uid)::text = ''::text));
CREATE INDEX ix_step_journey_id ON public.step USING btree (journey_id);
CREATE INDEX journey_accession ON public.journey USING btree (accession_number);
CREATE INDEX journey_due ON public.journey USING btree (due_at);
CREATE INDEX journey_offer ON public.journey USING btree (offer_id);
CREATE INDEX series_of_study ON public.series USING btree (study_instance_uid);
CREATE INDEX told_due ON public.told USING btree (due_at);
CREATE INDEX told_patient ON public.told USING btree (patient, kind);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_journey_id_fkey FOREIGN KEY (journey_id) REFERENCES public.journey(id);
ALTER TABLE ONLY public.step
    ADD CONSTRAINT step_journey_id_fkey FOREIGN KEY (journey_id) REFERENCES public.journey(id);
