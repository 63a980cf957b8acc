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
    asked_rank integer NOT NULL,
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
INSERT INTO public.change VALUES (1, 'hospital', '4acb3264a028409fa0c1e48b75c088de', 'opened', '2026-01-05T08:00:00.000000Z', '{}');
INSERT INTO public.change VALUES (2, 'hospital', '4acb3264a028409fa0c1e48b75c088de', 'leased', '2026-01-05T08:00:00.000000Z', '{"lease": {"lease_id": "783fd97b27fc4fcc82094038df945d64", "offer_id": "4acb3264a028409fa0c1e48b75c088de", "node_id": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "attempt": 1, "fencing_token": 1, "expires_at": "2026-01-05T08:00:30+00:00", "node_wrap_key": "f52443b2070caa18a3d878840e5fbc30985f119bbb7d57f42163db1d3a20695b", "node_sign_key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf"}, "node": {"kind": "node", "payload": "eyJiZW5jaG1hcmsiOjEsImRldmljZSI6ImNwdSIsImhhcmR3YXJlIjoiY3B1Iiwibm9kZV9pZCI6Ijk1OTZhZDRiNGZmODU4NjM5ZWQ1N2UxNWMxYzcwZGE1ZTc1OTllNDhjMGNiN2E1YmQ5OGMyNzUwOTNhODRhYmYiLCJwYXJjZWxfYnl0ZXNfbWF4Ijo4NTg5OTM0NTkyLCJzZXJ2aWNlcyI6WyJjdC1sdW5nIl0sInRpZXIiOiJwdWJsaWMiLCJ3cmFwX2tleSI6ImY1MjQ0M2IyMDcwY2FhMThhM2Q4Nzg4NDBlNWZiYzMwOTg1ZjExOWJiYjdkNTdmNDIxNjNkYjFkM2EyMDY5NWIifQ==", "key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "signature": "FTAQ8zZPzT6eTyoNM81BqchCtnbgXkU9I+SjkT0Z1eVvEPtB3I23yfekpIowjb4e7gr9d0sWXCSL4F6JnwtCAw=="}}');
INSERT INTO public.change VALUES (3, 'hospital', '4acb3264a028409fa0c1e48b75c088de', 'keyed', '2026-01-05T08:00:00.000000Z', '{}');
INSERT INTO public.change VALUES (4, 'hospital', '4acb3264a028409fa0c1e48b75c088de', 'computed', '2026-01-05T08:00:00.000000Z', '{"lease": {"lease_id": "783fd97b27fc4fcc82094038df945d64", "offer_id": "4acb3264a028409fa0c1e48b75c088de", "node_id": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "attempt": 1, "fencing_token": 1, "expires_at": "2026-01-05T08:00:30+00:00", "node_wrap_key": "f52443b2070caa18a3d878840e5fbc30985f119bbb7d57f42163db1d3a20695b", "node_sign_key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf"}, "node": {"kind": "node", "payload": "eyJiZW5jaG1hcmsiOjEsImRldmljZSI6ImNwdSIsImhhcmR3YXJlIjoiY3B1Iiwibm9kZV9pZCI6Ijk1OTZhZDRiNGZmODU4NjM5ZWQ1N2UxNWMxYzcwZGE1ZTc1OTllNDhjMGNiN2E1YmQ5OGMyNzUwOTNhODRhYmYiLCJwYXJjZWxfYnl0ZXNfbWF4Ijo4NTg5OTM0NTkyLCJzZXJ2aWNlcyI6WyJjdC1sdW5nIl0sInRpZXIiOiJwdWJsaWMiLCJ3cmFwX2tleSI6ImY1MjQ0M2IyMDcwY2FhMThhM2Q4Nzg4NDBlNWZiYzMwOTg1ZjExOWJiYjdkNTdmNDIxNjNkYjFkM2EyMDY5NWIifQ==", "key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "signature": "FTAQ8zZPzT6eTyoNM81BqchCtnbgXkU9I+SjkT0Z1eVvEPtB3I23yfekpIowjb4e7gr9d0sWXCSL4F6JnwtCAw=="}, "receipt": {"kind": "receipt", "payload": "eyJkZXZpY2UiOiJjcHUiLCJmZW5jaW5nX3Rva2VuIjoxLCJmaW5pc2hlZF9hdCI6IjIwMjYtMDEtMDVUMDg6MDA6MDArMDA6MDAiLCJpbnB1dF9kaWdlc3QiOiI1OTE1YzQ1OWNjYzNlZGQxZDU2NGZhMDRiZmQ3ZWQ1NjkzZTg5OTdkY2U4NWNkMmVkZmI5N2Q4OTkwZmVkOWIzIiwibGVhc2VfaWQiOiI3ODNmZDk3YjI3ZmM0ZmNjODIwOTQwMzhkZjk0NWQ2NCIsIm1vZGVsX2RpZ2VzdCI6IjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJub2RlX2lkIjoiOTU5NmFkNGI0ZmY4NTg2MzllZDU3ZTE1YzFjNzBkYTVlNzU5OWU0OGMwY2I3YTViZDk4YzI3NTA5M2E4NGFiZiIsIm9mZmVyX2lkIjoiNGFjYjMyNjRhMDI4NDA5ZmEwYzFlNDhiNzVjMDg4ZGUiLCJvdXRwdXRfZGlnZXN0IjoiZmJlZjM2MTNhNGRiNjRiNjNiYzIyMjhjMWE3MjU1NjBkMGRhOTM5ZDRiOGVhYmViZjcxMzJlMWFiZDg0YzM1NSIsInNlcnZpY2UiOiJjdC1sdW5nIiwic2VydmljZV92ZXJzaW9uIjoiMSIsInN0YXJ0ZWRfYXQiOiIyMDI2LTAxLTA1VDA4OjAwOjAwKzAwOjAwIiwidGltaW5ncyI6eyJydW4iOjAuMX0sIndyYXBwZWRfa2V5IjoiMDAifQ==", "key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "signature": "EVl527Tret4xvk4F46nVQccc1KYnFfHeCIiJrulCOY2e/CrDekMG0eunzaASEKLA0Qrs3Tk3I/MHcJUeWjebBw=="}, "size_bytes": 2083}');
INSERT INTO public.change VALUES (5, 'hospital', 'efa44639879740c89c499e15721acbce', 'opened', '2026-01-05T08:00:00.000000Z', '{}');
INSERT INTO public.lease VALUES (1, '783fd97b27fc4fcc82094038df945d64', '4acb3264a028409fa0c1e48b75c088de', '9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf', 1, 'computed', '', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:30.000000Z', '2026-01-05T08:00:30.000000Z', '00', '{"kind": "receipt", "payload": "eyJkZXZpY2UiOiJjcHUiLCJmZW5jaW5nX3Rva2VuIjoxLCJmaW5pc2hlZF9hdCI6IjIwMjYtMDEtMDVUMDg6MDA6MDArMDA6MDAiLCJpbnB1dF9kaWdlc3QiOiI1OTE1YzQ1OWNjYzNlZGQxZDU2NGZhMDRiZmQ3ZWQ1NjkzZTg5OTdkY2U4NWNkMmVkZmI5N2Q4OTkwZmVkOWIzIiwibGVhc2VfaWQiOiI3ODNmZDk3YjI3ZmM0ZmNjODIwOTQwMzhkZjk0NWQ2NCIsIm1vZGVsX2RpZ2VzdCI6IjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJub2RlX2lkIjoiOTU5NmFkNGI0ZmY4NTg2MzllZDU3ZTE1YzFjNzBkYTVlNzU5OWU0OGMwY2I3YTViZDk4YzI3NTA5M2E4NGFiZiIsIm9mZmVyX2lkIjoiNGFjYjMyNjRhMDI4NDA5ZmEwYzFlNDhiNzVjMDg4ZGUiLCJvdXRwdXRfZGlnZXN0IjoiZmJlZjM2MTNhNGRiNjRiNjNiYzIyMjhjMWE3MjU1NjBkMGRhOTM5ZDRiOGVhYmViZjcxMzJlMWFiZDg0YzM1NSIsInNlcnZpY2UiOiJjdC1sdW5nIiwic2VydmljZV92ZXJzaW9uIjoiMSIsInN0YXJ0ZWRfYXQiOiIyMDI2LTAxLTA1VDA4OjAwOjAwKzAwOjAwIiwidGltaW5ncyI6eyJydW4iOjAuMX0sIndyYXBwZWRfa2V5IjoiMDAifQ==", "key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "signature": "EVl527Tret4xvk4F46nVQccc1KYnFfHeCIiJrulCOY2e/CrDekMG0eunzaASEKLA0Qrs3Tk3I/MHcJUeWjebBw=="}', 'fbef3613a4db64b63bc2228c1a725560d0da939d4b8eabebf7132e1abd84c355');
INSERT INTO public.node VALUES ('9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf', 'f52443b2070caa18a3d878840e5fbc30985f119bbb7d57f42163db1d3a20695b', 'public', '', '["ct-lung"]', 'cpu', 'cpu', 1, 8589934592, '{"kind": "node", "payload": "eyJiZW5jaG1hcmsiOjEsImRldmljZSI6ImNwdSIsImhhcmR3YXJlIjoiY3B1Iiwibm9kZV9pZCI6Ijk1OTZhZDRiNGZmODU4NjM5ZWQ1N2UxNWMxYzcwZGE1ZTc1OTllNDhjMGNiN2E1YmQ5OGMyNzUwOTNhODRhYmYiLCJwYXJjZWxfYnl0ZXNfbWF4Ijo4NTg5OTM0NTkyLCJzZXJ2aWNlcyI6WyJjdC1sdW5nIl0sInRpZXIiOiJwdWJsaWMiLCJ3cmFwX2tleSI6ImY1MjQ0M2IyMDcwY2FhMThhM2Q4Nzg4NDBlNWZiYzMwOTg1ZjExOWJiYjdkNTdmNDIxNjNkYjFkM2EyMDY5NWIifQ==", "key": "9596ad4b4ff858639ed57e15c1c70da5e7599e48c0cb7a5bd98c275093a84abf", "signature": "FTAQ8zZPzT6eTyoNM81BqchCtnbgXkU9I+SjkT0Z1eVvEPtB3I23yfekpIowjb4e7gr9d0sWXCSL4F6JnwtCAw=="}', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', 0, 0, 0, 0, 0, NULL);
INSERT INTO public.nonce VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '2026-01-05T08:00:00.000000Z');
INSERT INTO public.offer VALUES ('4acb3264a028409fa0c1e48b75c088de', 'hospital', '{"kind": "offer", "payload": "eyJhdHRlc3RhdGlvbiI6IiIsImJyaWRnZV9pZCI6Imhvc3BpdGFsIiwiZGVhZGxpbmUiOiIyMDI2LTAxLTA1VDA5OjAwOjAwKzAwOjAwIiwiaGFyZHdhcmUiOiJjcHUiLCJvZmZlcl9pZCI6IjRhY2IzMjY0YTAyODQwOWZhMGMxZTQ4Yjc1YzA4OGRlIiwib3BlcmF0aW9ucyI6MTAwMDAwMDAwMCwicGFyY2VsX2RpZ2VzdCI6IjU5MTVjNDU5Y2NjM2VkZDFkNTY0ZmEwNGJmZDdlZDU2OTNlODk5N2RjZTg1Y2QyZWRmYjk3ZDg5OTBmZWQ5YjMiLCJwYXJjZWxfc2l6ZV9ieXRlcyI6MjA4MywicHJpY2VfYXNzZXQiOiJDTlkvMiIsInByaWNlX21heF91bml0cyI6MTAwLCJyZXBseV9rZXkiOiIwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIiwic2VydmljZSI6ImN0LWx1bmciLCJ0aWVyIjoicHVibGljIiwidXJnZW5jeSI6InJvdXRpbmUiLCJ2b3hlbHMiOjEwMDB9", "key": "1f6dea5d318350fee87ee093b47cae608b3a572ad0d1545e3d1350913426edb3", "signature": "CnAlWVnINJOlAsKb5kUrgRC/LBl7N1016bBrY9ZWosOsU6nM94DcLJF0BFy/Q0qwocMrdJIaUom1OEeM8RhUCQ=="}', 'ct-lung', 'public', 'cpu', 2, 2, '5915c459ccc3edd1d564fa04bfd7ed5693e8997dce85cd2edfb97d8990fed9b3', 2083, '2026-01-05T09:00:00.000000Z', 'computed', '', 1, 1, '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', NULL);
INSERT INTO public.offer VALUES ('efa44639879740c89c499e15721acbce', 'hospital', '{"kind": "offer", "payload": "eyJhdHRlc3RhdGlvbiI6IiIsImJyaWRnZV9pZCI6Imhvc3BpdGFsIiwiZGVhZGxpbmUiOiIyMDI2LTAxLTA1VDA5OjAwOjAwKzAwOjAwIiwiaGFyZHdhcmUiOiJjcHUiLCJvZmZlcl9pZCI6ImVmYTQ0NjM5ODc5NzQwYzg5YzQ5OWUxNTcyMWFjYmNlIiwib3BlcmF0aW9ucyI6MTAwMDAwMDAwMCwicGFyY2VsX2RpZ2VzdCI6IjU5MTVjNDU5Y2NjM2VkZDFkNTY0ZmEwNGJmZDdlZDU2OTNlODk5N2RjZTg1Y2QyZWRmYjk3ZDg5OTBmZWQ5YjMiLCJwYXJjZWxfc2l6ZV9ieXRlcyI6MjA4MywicHJpY2VfYXNzZXQiOiJDTlkvMiIsInByaWNlX21heF91bml0cyI6MTAwLCJyZXBseV9rZXkiOiIwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIiwic2VydmljZSI6ImN0LWx1bmciLCJ0aWVyIjoicHVibGljIiwidXJnZW5jeSI6InJvdXRpbmUiLCJ2b3hlbHMiOjEwMDB9", "key": "1f6dea5d318350fee87ee093b47cae608b3a572ad0d1545e3d1350913426edb3", "signature": "w5ZstaXrBQ1i6VbRZsWQOaVEv2p85uN4d7gFWrr47qaCPoj34psczqWm/dxqDnKxXGGd+gsW27xdLQ7lRaCtDg=="}', 'ct-lung', 'public', 'cpu', 2, 2, '5915c459ccc3edd1d564fa04bfd7ed5693e8997dce85cd2edfb97d8990fed9b3', 2083, '2026-01-05T09:00:00.000000Z', 'open', '', 0, 0, '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', '2026-01-05T08:00:00.000000Z', NULL);
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
CREATE INDEX offer_of_bridge ON public.offer USING btree (bridge_id, opened_at);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_node_id_fkey FOREIGN KEY (node_id) REFERENCES public.node(node_id);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_offer_id_fkey FOREIGN KEY (offer_id) REFERENCES public.offer(offer_id);
