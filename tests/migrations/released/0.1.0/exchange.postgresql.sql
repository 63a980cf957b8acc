SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.btt_bridge_revision (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.change (
    cursor integer NOT NULL,
    bridge_id character varying(40) NOT NULL,
    offer_id character varying(64) NOT NULL,
    kind character varying(16) NOT NULL,
    at character varying(32) NOT NULL,
    body json NOT NULL
);
CREATE SEQUENCE public.change_cursor_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.change_cursor_seq OWNED BY public.change.cursor;
CREATE TABLE public.lease (
    fencing_token integer NOT NULL,
    lease_id character varying(32) NOT NULL,
    offer_id character varying(64) NOT NULL,
    node_id character varying(64) NOT NULL,
    attempt integer NOT NULL,
    state character varying(16) NOT NULL,
    reason character varying(255) NOT NULL,
    granted_at character varying(32) NOT NULL,
    granted_until character varying(32) NOT NULL,
    expires_at character varying(32) NOT NULL,
    wrapped_key character varying(512) NOT NULL,
    receipt json,
    result_digest character varying(64) NOT NULL
);
CREATE SEQUENCE public.lease_fencing_token_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.lease_fencing_token_seq OWNED BY public.lease.fencing_token;
CREATE TABLE public.node (
    node_id character varying(64) NOT NULL,
    wrap_key character varying(64) NOT NULL,
    tier character varying(16) NOT NULL,
    bridge_id character varying(40) NOT NULL,
    services json NOT NULL,
    device character varying(64) NOT NULL,
    hardware character varying(16) NOT NULL,
    benchmark bigint NOT NULL,
    parcel_bytes_max bigint NOT NULL,
    envelope json NOT NULL,
    joined_at character varying(32) NOT NULL,
    seen_at character varying(32) NOT NULL,
    accepted integer NOT NULL,
    refused integer NOT NULL,
    failed integer NOT NULL,
    lapsed integer NOT NULL,
    strikes integer NOT NULL,
    banned_until character varying(32)
);
CREATE TABLE public.nonce (
    public character varying(64) NOT NULL,
    nonce character varying(64) NOT NULL,
    at character varying(32) NOT NULL
);
CREATE TABLE public.offer (
    offer_id character varying(64) NOT NULL,
    bridge_id character varying(40) NOT NULL,
    envelope json NOT NULL,
    service character varying(64) NOT NULL,
    tier character varying(16) NOT NULL,
    hardware character varying(16) NOT NULL,
    urgency_rank integer NOT NULL,
    parcel_digest character varying(64) NOT NULL,
    parcel_size_bytes bigint NOT NULL,
    deadline character varying(32) NOT NULL,
    state character varying(16) NOT NULL,
    reason character varying(255) NOT NULL,
    attempts integer NOT NULL,
    fencing_token integer NOT NULL,
    opened_at character varying(32) NOT NULL,
    ranked_at character varying(32) NOT NULL,
    changed_at character varying(32) NOT NULL,
    cleared_at character varying(32)
);
ALTER TABLE ONLY public.change ALTER COLUMN cursor SET DEFAULT nextval('public.change_cursor_seq'::regclass);
ALTER TABLE ONLY public.lease ALTER COLUMN fencing_token SET DEFAULT nextval('public.lease_fencing_token_seq'::regclass);
INSERT INTO public.btt_bridge_revision VALUES ('exchange_0001');
INSERT INTO public.change VALUES (1, 'hospital', '44da61f36c05476587056c92f8160159', 'opened', '2026-01-05T08:00:00.000000Z', '{}');
INSERT INTO public.change VALUES (2, 'hospital', '44da61f36c05476587056c92f8160159', 'leased', '2026-01-05T08:00:00.000000Z', '{"lease": {"lease_id": "b907c653286d42f882e1357f78bc91a6", "offer_id": "44da61f36c05476587056c92f8160159", "node_id": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "attempt": 1, "fencing_token": 1, "expires_at": "2026-01-05T08:00:30+00:00", "node_wrap_key": "49ded0298970b2b265033e9efa3a83e681c252940a4fb4d1baaa136059a83825", "node_sign_key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7"}, "node": {"kind": "node", "payload": "eyJiZW5jaG1hcmsiOjEsImRldmljZSI6ImNwdSIsImhhcmR3YXJlIjoiY3B1Iiwibm9kZV9pZCI6ImJlODc5Y2UyZDE2MmM5Zjc4ODMzODM4NDg0ZDQwMTkzZTI0ODBmOTIxNjc1ZWU1OTc4NDUzNDE1MTM4NDQ0YjciLCJwYXJjZWxfYnl0ZXNfbWF4Ijo4NTg5OTM0NTkyLCJzZXJ2aWNlcyI6WyJjdC1sdW5nIl0sInRpZXIiOiJwdWJsaWMiLCJ3cmFwX2tleSI6IjQ5ZGVkMDI5ODk3MGIyYjI2NTAzM2U5ZWZhM2E4M2U2ODFjMjUyOTQwYTRmYjRkMWJhYWExMzYwNTlhODM4MjUifQ==", "key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "signature": "z81DRrna1to4c7EPMuED/sePUfHi2CxsMq1axmq4ShOhXvQXcx2zF2LxBpKtEEXScIY52Poup3QjojvQIDM/Cw=="}}');
INSERT INTO public.change VALUES (3, 'hospital', '44da61f36c05476587056c92f8160159', 'keyed', '2026-01-05T08:00:00.000000Z', '{}');
INSERT INTO public.change VALUES (4, 'hospital', '44da61f36c05476587056c92f8160159', 'computed', '2026-01-05T08:00:00.000000Z', '{"lease": {"lease_id": "b907c653286d42f882e1357f78bc91a6", "offer_id": "44da61f36c05476587056c92f8160159", "node_id": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "attempt": 1, "fencing_token": 1, "expires_at": "2026-01-05T08:00:30+00:00", "node_wrap_key": "49ded0298970b2b265033e9efa3a83e681c252940a4fb4d1baaa136059a83825", "node_sign_key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7"}, "node": {"kind": "node", "payload": "eyJiZW5jaG1hcmsiOjEsImRldmljZSI6ImNwdSIsImhhcmR3YXJlIjoiY3B1Iiwibm9kZV9pZCI6ImJlODc5Y2UyZDE2MmM5Zjc4ODMzODM4NDg0ZDQwMTkzZTI0ODBmOTIxNjc1ZWU1OTc4NDUzNDE1MTM4NDQ0YjciLCJwYXJjZWxfYnl0ZXNfbWF4Ijo4NTg5OTM0NTkyLCJzZXJ2aWNlcyI6WyJjdC1sdW5nIl0sInRpZXIiOiJwdWJsaWMiLCJ3cmFwX2tleSI6IjQ5ZGVkMDI5ODk3MGIyYjI2NTAzM2U5ZWZhM2E4M2U2ODFjMjUyOTQwYTRmYjRkMWJhYWExMzYwNTlhODM4MjUifQ==", "key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "signature": "z81DRrna1to4c7EPMuED/sePUfHi2CxsMq1axmq4ShOhXvQXcx2zF2LxBpKtEEXScIY52Poup3QjojvQIDM/Cw=="}, "receipt": {"kind": "receipt", "payload": "eyJkZXZpY2UiOiJjcHUiLCJmZW5jaW5nX3Rva2VuIjoxLCJmaW5pc2hlZF9hdCI6IjIwMjYtMDEtMDVUMDg6MDA6MDArMDA6MDAiLCJpbnB1dF9kaWdlc3QiOiIzMGYxNjc1Y2M0YTFmMjkxOGQ3NWE2N2UyOTg2OWRjNGJkODcwZTdmZGVhOWZhYWNjZTBkZGMxZGUyMmFmM2VlIiwibGVhc2VfaWQiOiJiOTA3YzY1MzI4NmQ0MmY4ODJlMTM1N2Y3OGJjOTFhNiIsIm1vZGVsX2RpZ2VzdCI6IjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJub2RlX2lkIjoiYmU4NzljZTJkMTYyYzlmNzg4MzM4Mzg0ODRkNDAxOTNlMjQ4MGY5MjE2NzVlZTU5Nzg0NTM0MTUxMzg0NDRiNyIsIm9mZmVyX2lkIjoiNDRkYTYxZjM2YzA1NDc2NTg3MDU2YzkyZjgxNjAxNTkiLCJvdXRwdXRfZGlnZXN0IjoiY2Q4ZDkwNWRjNTdiNTYwMmE1MzY2NzcyZDMyN2ViZjM1ODE0MDk5NGMxYjhlMjBhN2RlOWVhZjc3MzJlNDcxMyIsInNlcnZpY2UiOiJjdC1sdW5nIiwic2VydmljZV92ZXJzaW9uIjoiMSIsInN0YXJ0ZWRfYXQiOiIyMDI2LTAxLTA1VDA4OjAwOjAwKzAwOjAwIiwidGltaW5ncyI6eyJydW4iOjAuMX0sIndyYXBwZWRfa2V5IjoiMDAifQ==", "key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "signature": "PYy4+oDzXbpU9VNWmijavFSH8bxHG5EN2nj22Tr4ghDobIaeNYRUDyiSML2ZUvvc76ia9BOTuWpGLYRMG7FrDg=="}, "size_bytes": 2083}');
INSERT INTO public.change VALUES (5, 'hospital', 'e472c44414e044a785e9b4532e92ed29', 'opened', '2026-01-05T08:00:00.000000Z', '{}');
INSERT INTO public.lease VALUES (1, 'b907c653286d42f882e1357f78bc91a6', '44da61f36c05476587056c92f8160159', 'be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7', 1, 'computed', '', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:30.000000Z', '2026-01-05T08:00:30.000000Z', '00', '{"kind": "receipt", "payload": "eyJkZXZpY2UiOiJjcHUiLCJmZW5jaW5nX3Rva2VuIjoxLCJmaW5pc2hlZF9hdCI6IjIwMjYtMDEtMDVUMDg6MDA6MDArMDA6MDAiLCJpbnB1dF9kaWdlc3QiOiIzMGYxNjc1Y2M0YTFmMjkxOGQ3NWE2N2UyOTg2OWRjNGJkODcwZTdmZGVhOWZhYWNjZTBkZGMxZGUyMmFmM2VlIiwibGVhc2VfaWQiOiJiOTA3YzY1MzI4NmQ0MmY4ODJlMTM1N2Y3OGJjOTFhNiIsIm1vZGVsX2RpZ2VzdCI6IjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJub2RlX2lkIjoiYmU4NzljZTJkMTYyYzlmNzg4MzM4Mzg0ODRkNDAxOTNlMjQ4MGY5MjE2NzVlZTU5Nzg0NTM0MTUxMzg0NDRiNyIsIm9mZmVyX2lkIjoiNDRkYTYxZjM2YzA1NDc2NTg3MDU2YzkyZjgxNjAxNTkiLCJvdXRwdXRfZGlnZXN0IjoiY2Q4ZDkwNWRjNTdiNTYwMmE1MzY2NzcyZDMyN2ViZjM1ODE0MDk5NGMxYjhlMjBhN2RlOWVhZjc3MzJlNDcxMyIsInNlcnZpY2UiOiJjdC1sdW5nIiwic2VydmljZV92ZXJzaW9uIjoiMSIsInN0YXJ0ZWRfYXQiOiIyMDI2LTAxLTA1VDA4OjAwOjAwKzAwOjAwIiwidGltaW5ncyI6eyJydW4iOjAuMX0sIndyYXBwZWRfa2V5IjoiMDAifQ==", "key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "signature": "PYy4+oDzXbpU9VNWmijavFSH8bxHG5EN2nj22Tr4ghDobIaeNYRUDyiSML2ZUvvc76ia9BOTuWpGLYRMG7FrDg=="}', 'cd8d905dc57b5602a5366772d327ebf358140994c1b8e20a7de9eaf7732e4713');
INSERT INTO public.node VALUES ('be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7', '49ded0298970b2b265033e9efa3a83e681c252940a4fb4d1baaa136059a83825', 'public', '', '["ct-lung"]', 'cpu', 'cpu', 1, 8589934592, '{"kind": "node", "payload": "eyJiZW5jaG1hcmsiOjEsImRldmljZSI6ImNwdSIsImhhcmR3YXJlIjoiY3B1Iiwibm9kZV9pZCI6ImJlODc5Y2UyZDE2MmM5Zjc4ODMzODM4NDg0ZDQwMTkzZTI0ODBmOTIxNjc1ZWU1OTc4NDUzNDE1MTM4NDQ0YjciLCJwYXJjZWxfYnl0ZXNfbWF4Ijo4NTg5OTM0NTkyLCJzZXJ2aWNlcyI6WyJjdC1sdW5nIl0sInRpZXIiOiJwdWJsaWMiLCJ3cmFwX2tleSI6IjQ5ZGVkMDI5ODk3MGIyYjI2NTAzM2U5ZWZhM2E4M2U2ODFjMjUyOTQwYTRmYjRkMWJhYWExMzYwNTlhODM4MjUifQ==", "key": "be879ce2d162c9f78833838484d40193e2480f921675ee5978453415138444b7", "signature": "z81DRrna1to4c7EPMuED/sePUfHi2CxsMq1axmq4ShOhXvQXcx2zF2LxBpKtEEXScIY52Poup3QjojvQIDM/Cw=="}', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', 0, 0, 0, 0, 0, NULL);
INSERT INTO public.nonce VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '2026-01-05T08:00:00.000000Z');
INSERT INTO public.offer VALUES ('44da61f36c05476587056c92f8160159', 'hospital', '{"kind": "offer", "payload": "eyJhdHRlc3RhdGlvbiI6IiIsImJyaWRnZV9pZCI6Imhvc3BpdGFsIiwiZGVhZGxpbmUiOiIyMDI2LTAxLTA1VDA5OjAwOjAwKzAwOjAwIiwiaGFyZHdhcmUiOiJjcHUiLCJvZmZlcl9pZCI6IjQ0ZGE2MWYzNmMwNTQ3NjU4NzA1NmM5MmY4MTYwMTU5Iiwib3BlcmF0aW9ucyI6MTAwMDAwMDAwMCwicGFyY2VsX2RpZ2VzdCI6IjMwZjE2NzVjYzRhMWYyOTE4ZDc1YTY3ZTI5ODY5ZGM0YmQ4NzBlN2ZkZWE5ZmFhY2NlMGRkYzFkZTIyYWYzZWUiLCJwYXJjZWxfc2l6ZV9ieXRlcyI6MjA4MywicHJpY2VfYXNzZXQiOiJDTlkvMiIsInByaWNlX21heF91bml0cyI6MTAwLCJyZXBseV9rZXkiOiIwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIiwic2VydmljZSI6ImN0LWx1bmciLCJ0aWVyIjoicHVibGljIiwidXJnZW5jeSI6InJvdXRpbmUiLCJ2b3hlbHMiOjEwMDB9", "key": "3d108c2ba752d8d8b2503964f630c4ea961615ae495aa5bc16205ebde5e38f83", "signature": "GiDeG4G8cIXEwlpnM0NtVDHEm0KKlWRuj++KF4ztO7mZwfAMKw2HtgvVXctaUSDm0SltCSytJzeQjBaEbTSQDg=="}', 'ct-lung', 'public', 'cpu', 2, '30f1675cc4a1f2918d75a67e29869dc4bd870e7fdea9faacce0ddc1de22af3ee', 2083, '2026-01-05T09:00:00.000000Z', 'computed', '', 1, 1, '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', NULL);
INSERT INTO public.offer VALUES ('e472c44414e044a785e9b4532e92ed29', 'hospital', '{"kind": "offer", "payload": "eyJhdHRlc3RhdGlvbiI6IiIsImJyaWRnZV9pZCI6Imhvc3BpdGFsIiwiZGVhZGxpbmUiOiIyMDI2LTAxLTA1VDA5OjAwOjAwKzAwOjAwIiwiaGFyZHdhcmUiOiJjcHUiLCJvZmZlcl9pZCI6ImU0NzJjNDQ0MTRlMDQ0YTc4NWU5YjQ1MzJlOTJlZDI5Iiwib3BlcmF0aW9ucyI6MTAwMDAwMDAwMCwicGFyY2VsX2RpZ2VzdCI6IjMwZjE2NzVjYzRhMWYyOTE4ZDc1YTY3ZTI5ODY5ZGM0YmQ4NzBlN2ZkZWE5ZmFhY2NlMGRkYzFkZTIyYWYzZWUiLCJwYXJjZWxfc2l6ZV9ieXRlcyI6MjA4MywicHJpY2VfYXNzZXQiOiJDTlkvMiIsInByaWNlX21heF91bml0cyI6MTAwLCJyZXBseV9rZXkiOiIwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIiwic2VydmljZSI6ImN0LWx1bmciLCJ0aWVyIjoicHVibGljIiwidXJnZW5jeSI6InJvdXRpbmUiLCJ2b3hlbHMiOjEwMDB9", "key": "3d108c2ba752d8d8b2503964f630c4ea961615ae495aa5bc16205ebde5e38f83", "signature": "1JI9cJ1oresaFjsvLp+yBgiuRJJ0Q/VfrfwfK+3q2Zm6yktrex80s91NHMHcj+ZtRAU48G4/mUwTsE8EWidgAA=="}', 'ct-lung', 'public', 'cpu', 2, '30f1675cc4a1f2918d75a67e29869dc4bd870e7fdea9faacce0ddc1de22af3ee', 2083, '2026-01-05T09:00:00.000000Z', 'open', '', 0, 0, '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', NULL);
SELECT pg_catalog.setval('public.change_cursor_seq', 5, true);
SELECT pg_catalog.setval('public.lease_fencing_token_seq', 1, true);
ALTER TABLE ONLY public.btt_bridge_revision
    ADD CONSTRAINT btt_bridge_revision_pkey PRIMARY KEY (version_num);
ALTER TABLE ONLY public.change
    ADD CONSTRAINT change_pkey PRIMARY KEY (cursor);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_lease_id_key UNIQUE (lease_id);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (fencing_token);
ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (node_id);
ALTER TABLE ONLY public.nonce
    ADD CONSTRAINT nonce_pkey PRIMARY KEY (public, nonce);
ALTER TABLE ONLY public.offer
    ADD CONSTRAINT offer_pkey PRIMARY KEY (offer_id);
CREATE INDEX change_of_bridge ON public.change USING btree (bridge_id, cursor);
CREATE INDEX ix_nonce_at ON public.nonce USING btree (at);
CREATE INDEX lease_expiry ON public.lease USING btree (state, expires_at);
CREATE INDEX lease_of_node ON public.lease USING btree (node_id, state);
CREATE INDEX lease_of_offer ON public.lease USING btree (offer_id, node_id);
CREATE INDEX lease_result ON public.lease USING btree (result_digest);
CREATE INDEX node_seen ON public.node USING btree (seen_at);
CREATE INDEX offer_by_parcel ON public.offer USING btree (parcel_digest);
CREATE INDEX offer_in_order ON public.offer USING btree (state, urgency_rank, ranked_at);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_node_id_fkey FOREIGN KEY (node_id) REFERENCES public.node(node_id);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_offer_id_fkey FOREIGN KEY (offer_id) REFERENCES public.offer(offer_id);
