SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.ledger_account() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'account rows are never deleted' USING ERRCODE = 'integrity_constraint_violation';
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.debits_posted + NEW.credits_posted + NEW.debits_pending + NEW.credits_pending <> 0
            OR NEW.last_transfer <> 0 THEN
            RAISE EXCEPTION 'an account opens at zero' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    ELSIF NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.asset <> OLD.asset THEN
        RAISE EXCEPTION 'name and asset of an account are fixed' USING ERRCODE = 'integrity_constraint_violation';
    ELSIF NOT (NEW.debits_posted = OLD.debits_posted AND NEW.credits_posted = OLD.credits_posted AND NEW.debits_pending = OLD.debits_pending AND NEW.credits_pending = OLD.credits_pending AND NEW.last_transfer = OLD.last_transfer) AND NOT (NEW.last_transfer > OLD.last_transfer AND EXISTS (SELECT 1 FROM transfer WHERE id = NEW.last_transfer AND NEW.id IN (debit, credit))) THEN
        RAISE EXCEPTION 'totals of an account follow from its transfers' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION public.ledger_posting() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM fresh WHERE id <> coalesce(
            (SELECT p.id + p.transfers FROM posting p WHERE p.id < fresh.id ORDER BY p.id DESC LIMIT 1), 1)
    ) THEN
        RAISE EXCEPTION 'a posting begins where the one before it ends' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.ledger_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE FUNCTION public.ledger_transfer() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT max(id) - count(*) FROM fresh)
        <> coalesce((SELECT max(id) FROM transfer WHERE id < (SELECT min(id) FROM fresh)), 0) THEN
        RAISE EXCEPTION 'transfer ids have no gaps' USING ERRCODE = 'integrity_constraint_violation';
    ELSIF EXISTS (
        SELECT 1 FROM fresh LEFT JOIN posting p ON p.id = fresh.posting
        WHERE NOT coalesce(fresh.id BETWEEN p.id AND p.id + p.transfers - 1, false)
    ) THEN
        RAISE EXCEPTION 'a transfer belongs to a posting' USING ERRCODE = 'integrity_constraint_violation';
    ELSIF EXISTS (
        SELECT 1 FROM fresh LEFT JOIN transfer h ON h.id = fresh.hold
        WHERE fresh.hold IS NOT NULL AND NOT coalesce(h.kind = 'hold' AND h.debit = fresh.debit AND h.credit = fresh.credit AND h.asset = fresh.asset
        AND h.amount >= fresh.amount AND (fresh.kind = 'post' OR h.amount = fresh.amount)
        AND (fresh.kind <> 'post' OR fresh.at < h.expires_at)
        AND (fresh.kind <> 'expire' OR fresh.at >= h.expires_at), false)
    ) THEN
        RAISE EXCEPTION 'the transfer does not match its hold' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- Always in the order of their ids, so that two writers wait for each other and never for ever.
    PERFORM 1 FROM account
        WHERE id IN (SELECT debit FROM fresh UNION SELECT credit FROM fresh) ORDER BY id FOR NO KEY UPDATE;
    UPDATE account SET
        debits_posted = account.debits_posted + change.debits_posted,
        credits_posted = account.credits_posted + change.credits_posted,
        debits_pending = account.debits_pending + change.debits_pending,
        credits_pending = account.credits_pending + change.credits_pending,
        last_transfer = change.last_transfer
    FROM (
        SELECT leg.account,
            coalesce(sum(posted) FILTER (WHERE side = 'debit'), 0) AS debits_posted,
            coalesce(sum(posted) FILTER (WHERE side = 'credit'), 0) AS credits_posted,
            coalesce(sum(pending) FILTER (WHERE side = 'debit'), 0) AS debits_pending,
            coalesce(sum(pending) FILTER (WHERE side = 'credit'), 0) AS credits_pending,
            max(id) AS last_transfer
        FROM (
            SELECT fresh.id, fresh.debit, fresh.credit,
                CASE WHEN fresh.kind IN ('move', 'post') THEN fresh.amount ELSE 0 END AS posted,
                CASE fresh.kind WHEN 'move' THEN 0 WHEN 'hold' THEN fresh.amount ELSE -h.amount END AS pending
            FROM fresh LEFT JOIN transfer h ON h.id = fresh.hold
        ) effect CROSS JOIN LATERAL (VALUES ('debit', effect.debit), ('credit', effect.credit)) leg (side, account)
        GROUP BY leg.account
    ) change WHERE account.id = change.account;
    INSERT INTO open_hold (hold, expires_at) SELECT id, expires_at FROM fresh WHERE kind = 'hold';
    DELETE FROM open_hold USING fresh WHERE open_hold.hold = fresh.hold;
    RETURN NULL;
END $$;
CREATE TABLE public.account (
    id bigint NOT NULL,
    name character varying(128) NOT NULL,
    asset character varying(8) NOT NULL,
    credit_limit numeric,
    debits_posted numeric NOT NULL,
    credits_posted numeric NOT NULL,
    debits_pending numeric NOT NULL,
    credits_pending numeric NOT NULL,
    last_transfer bigint NOT NULL,
    CONSTRAINT account_is_covered CHECK (((credit_limit IS NULL) OR ((debits_posted + debits_pending) <= (credits_posted + credit_limit)))),
    CONSTRAINT credit_limit_is_whole CHECK (((credit_limit IS NULL) OR ((credit_limit >= (0)::numeric) AND (credit_limit < '100000000000000000000000000000000000000'::numeric) AND (scale(credit_limit) = 0)))),
    CONSTRAINT credits_pending_is_whole CHECK (((credits_pending >= (0)::numeric) AND (credits_pending < '100000000000000000000000000000000000000'::numeric) AND (scale(credits_pending) = 0))),
    CONSTRAINT credits_posted_is_whole CHECK (((credits_posted >= (0)::numeric) AND (credits_posted < '100000000000000000000000000000000000000'::numeric) AND (scale(credits_posted) = 0))),
    CONSTRAINT debits_pending_is_whole CHECK (((debits_pending >= (0)::numeric) AND (debits_pending < '100000000000000000000000000000000000000'::numeric) AND (scale(debits_pending) = 0))),
    CONSTRAINT debits_posted_is_whole CHECK (((debits_posted >= (0)::numeric) AND (debits_posted < '100000000000000000000000000000000000000'::numeric) AND (scale(debits_posted) = 0))),
    CONSTRAINT name_is_plain CHECK (((name)::text ~ '^[a-z0-9:._-]+$'::text))
);
CREATE SEQUENCE public.account_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.account_id_seq OWNED BY public.account.id;
CREATE TABLE public.anchor (
    place character varying(128) NOT NULL,
    batch bigint NOT NULL,
    standing character varying(8) NOT NULL,
    transaction character varying(128) NOT NULL,
    at character varying(32) NOT NULL
);
CREATE TABLE public.asset (
    code character varying(8) NOT NULL,
    scale smallint NOT NULL,
    CONSTRAINT code_is_plain CHECK (((code)::text ~ '^[A-Z]+$'::text)),
    CONSTRAINT scale_is_sane CHECK (((scale >= 0) AND (scale <= 18)))
);
CREATE TABLE public.batch (
    id bigint NOT NULL,
    first_transfer bigint NOT NULL,
    last_transfer bigint NOT NULL,
    root bytea NOT NULL,
    envelope text NOT NULL,
    at character varying(32) NOT NULL
);
CREATE TABLE public.btt_bridge_revision (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.drained (
    sink character varying(64) NOT NULL,
    "position" bigint NOT NULL
);
CREATE TABLE public.hindrance (
    sink character varying(64) NOT NULL,
    stopped boolean NOT NULL,
    reason character varying(255) NOT NULL,
    advice character varying(255) NOT NULL,
    since character varying(32) NOT NULL
);
CREATE TABLE public.open_hold (
    hold bigint NOT NULL,
    expires_at character varying(32) NOT NULL
);
CREATE TABLE public.outbox (
    posting bigint NOT NULL,
    account bigint NOT NULL,
    sequence bigint NOT NULL,
    type character varying(64) NOT NULL,
    data text NOT NULL
);
CREATE TABLE public.posting (
    id bigint NOT NULL,
    issuer character varying(64) NOT NULL,
    key character varying(200) NOT NULL,
    digest bytea NOT NULL,
    event bytea NOT NULL,
    transfers integer NOT NULL,
    at character varying(32) NOT NULL,
    CONSTRAINT issuer_is_plain CHECK (((issuer)::text ~ '^[A-Za-z0-9:._-]+$'::text)),
    CONSTRAINT key_is_plain CHECK (((key)::text ~ '^[A-Za-z0-9:._-]+$'::text)),
    CONSTRAINT posting_has_transfers CHECK ((transfers > 0))
);
CREATE TABLE public.reward_claim (
    fact character varying(32) NOT NULL,
    patient character varying(64) NOT NULL,
    rank character varying(96) NOT NULL,
    digest character varying(64) NOT NULL,
    retracted boolean NOT NULL,
    unmet text NOT NULL
);
CREATE TABLE public.transfer (
    id bigint NOT NULL,
    posting bigint NOT NULL,
    kind character varying(6) NOT NULL,
    debit bigint NOT NULL,
    credit bigint NOT NULL,
    asset character varying(8) NOT NULL,
    amount numeric NOT NULL,
    hold bigint,
    expires_at character varying(32),
    reason character varying(64) NOT NULL,
    at character varying(32) NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT amount_is_whole CHECK (((amount >= (1)::numeric) AND (amount < '100000000000000000000000000000000000000'::numeric) AND (scale(amount) = 0))),
    CONSTRAINT reason_is_plain CHECK (((reason)::text ~ '^[a-z0-9 -]+$'::text)),
    CONSTRAINT transfer_has_two_sides CHECK ((debit <> credit)),
    CONSTRAINT transfer_hold_expires CHECK ((((kind)::text = 'hold'::text) = (expires_at IS NOT NULL))),
    CONSTRAINT transfer_kind CHECK (((kind)::text = ANY ((ARRAY['move'::character varying, 'hold'::character varying, 'post'::character varying, 'void'::character varying, 'expire'::character varying])::text[]))),
    CONSTRAINT transfer_resolves_a_hold CHECK ((((kind)::text = ANY ((ARRAY['post'::character varying, 'void'::character varying, 'expire'::character varying])::text[])) = (hold IS NOT NULL)))
);
ALTER TABLE ONLY public.account ALTER COLUMN id SET DEFAULT nextval('public.account_id_seq'::regclass);
INSERT INTO public.account VALUES (3, 'world:cny', 'CNY', NULL, 936, 0, 0, 0, 9);
INSERT INTO public.account VALUES (2, 'b:cny', 'CNY', 0, 0, 5, 0, 30, 12);
INSERT INTO public.account VALUES (1, 'a:cny', 'CNY', 0, 5, 936, 30, 0, 12);
INSERT INTO public.anchor VALUES ('place', 1, 'posted', '0x1', '2026-01-05T08:00:00.000000Z');
INSERT INTO public.asset VALUES ('CNY', 2);
INSERT INTO public.batch VALUES (1, 1, 12, '\xe9fec0d0c333f94de513ee06315d1fbefdc0bbef7081812b7bebb94df9edfc66', '{"kind": "btt.settlement-batch", "payload": "eyJhdCI6IjIwMjYtMDEtMDVUMDg6MDA6MDAuMDAwMDAwWiIsImJhdGNoIjoxLCJmaXJzdF90cmFuc2ZlciI6MSwibGFzdF90cmFuc2ZlciI6MTIsInByZXZpb3VzX3Jvb3QiOiIiLCJyb290IjoiZTlmZWMwZDBjMzMzZjk0ZGU1MTNlZTA2MzE1ZDFmYmVmZGMwYmJlZjcwODE4MTJiN2JlYmI5NGRmOWVkZmM2NiJ9", "key": "9a8a67501f0fa7c7e550afa1def03593c12883fd10da8d3f7da61b4d9da70876", "signature": "Eoq3UhyU+KLKvm+DwJoQCU2wN0IteCq5GHCbMvyR5AY6kF3DVKHK+/A/A2qcZDyLiR8dUvzTT/KIyhCm9IcgDA=="}', '2026-01-05T08:00:00.000000Z');
INSERT INTO public.btt_bridge_revision VALUES ('ledger_0001');
INSERT INTO public.btt_bridge_revision VALUES ('claims_0001');
INSERT INTO public.drained VALUES ('file', 3);
INSERT INTO public.hindrance VALUES ('webhook', true, 'no answer', 'look at it', '2026-01-05T08:00:00.000000Z');
INSERT INTO public.open_hold VALUES (11, '2026-01-05T09:00:00.000000Z');
INSERT INTO public.outbox VALUES (1, 1, 1, 'btt.test.v1', '{"n":0}');
INSERT INTO public.outbox VALUES (2, 1, 2, 'btt.test.v1', '{"n":1}');
INSERT INTO public.outbox VALUES (3, 1, 3, 'btt.test.v1', '{"n":2}');
INSERT INTO public.outbox VALUES (4, 1, 4, 'btt.test.v1', '{"n":3}');
INSERT INTO public.outbox VALUES (5, 1, 5, 'btt.test.v1', '{"n":4}');
INSERT INTO public.outbox VALUES (6, 1, 6, 'btt.test.v1', '{"n":5}');
INSERT INTO public.outbox VALUES (7, 1, 7, 'btt.test.v1', '{"n":6}');
INSERT INTO public.outbox VALUES (8, 1, 8, 'btt.test.v1', '{"n":7}');
INSERT INTO public.outbox VALUES (9, 1, 9, 'btt.test.v1', '{"n":8}');
INSERT INTO public.posting VALUES (1, 't', 'm0', '\x72341c185997d7a329147de19600ff7893c8754bc01362fd719be18af5fedc8b', '\xfca5af6421bb2199301387b00a02e2b8c64edb4ed31b6cac4e177adea1562769', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (2, 't', 'm1', '\x6ec2f6611a26b156ea141e291927df21774193e92a21116c9d3be3c92a6457ba', '\x60eafd93b3452cd3fa7737da946648341ca331a5b28a29957abc917e2df08cb2', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (3, 't', 'm2', '\x4bce43787f96e71141f409ea3ba732e80a22ab9b79febdb3bacc84e46195d443', '\x713d7b65e2772892639c12ec718fc2cff2eb9d4de03d6aeb9aa4b13112d6a758', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (4, 't', 'm3', '\x61ad7ce546cb72edf38ff5d195022fed820379cf5c52772ac5d3fd13440e49f6', '\x079c699c02dc5eb51f50b3ec026de4b6596595690ddcf95ae07fa837d87e5276', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (5, 't', 'm4', '\x1ed42711d2fbf23aec4294f4d9291a679692dc86f02e7bcf108b8fe8ed49edd2', '\xf55d8f9eb605b4f4274a92c8fc4035e8ab1d52d1b3e6edb9c72b687b3a8c6b42', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (6, 't', 'm5', '\x4a10d9b2592da3a25a5de3be58681732aaebdea72a9c66f2382022a7406d4bf3', '\xc718aefe5c26e540764672039748fef51e57a8612ad3ec32c18befb6776b255b', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (7, 't', 'm6', '\x23d598c601456b935148071f4b337f983cfab4e4091c51b2b363d8c61803418d', '\xe2c9349417707d268bb74188c67b8c7fe0f98d3cf4a53762c08f9d6844bc44c9', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (8, 't', 'm7', '\xe7568a40530e8621d9e7640384c1ec3ce0d4419e196f2681c65d2350a63301cc', '\xaa308e6d7eae1365975c783ca877652e5e89fd758179c3391d53a1825bcd3a81', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (9, 't', 'm8', '\x889dc7b92ddf6035242d15dcf1c29e9732ef2396928580d0bd7295558dd53afb', '\x161c88c3c6aec9624284dba6e0190bd16a95f4e21ef115e2c6fe70f4bd3c8818', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (10, 't', 'h1', '\xedd481a37be98bfd51ef0de313d005abe5e2e7220e9df889c8b5bfcf058edf90', '\x', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (11, 't', 'h2', '\x63de50780d91243a612d1ab64c410a56735643b4602894ad5002d8339f9dfc87', '\x', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.posting VALUES (12, 't', 'p1', '\x48ebb3a6cbef887c49ac9c93b08b57657d5d9e54917cde76526450d056c12298', '\x', 1, '2026-01-05T08:00:00.000000Z');
INSERT INTO public.reward_claim VALUES ('fact', 'patient', 'rank', 'digest', false, 'p/r');
INSERT INTO public.transfer VALUES (1, 1, 'move', 3, 1, 'CNY', 100, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x406471e438638fbc351028edbad4fa8f120d36926252eab41d723300a152faf0');
INSERT INTO public.transfer VALUES (2, 2, 'move', 3, 1, 'CNY', 101, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x51ca2b788367f368c5952ef651f53accabca8233c2b473282f6c1e73c514a457');
INSERT INTO public.transfer VALUES (3, 3, 'move', 3, 1, 'CNY', 102, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x2bff7a391ed0c9d3520c1a24044ef96fa9ea8bf8699ea28c723e9e27d4f20f2e');
INSERT INTO public.transfer VALUES (4, 4, 'move', 3, 1, 'CNY', 103, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x0cfbfcc900e4881f73356ab3eca730f0facb525bbeb1a80f83a303483426e0c7');
INSERT INTO public.transfer VALUES (5, 5, 'move', 3, 1, 'CNY', 104, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\xa558fc1fe71f15a0064387b97661491f71a02df5387010d04118ba4143a2d31a');
INSERT INTO public.transfer VALUES (6, 6, 'move', 3, 1, 'CNY', 105, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\xd9ed96495a1256e98ae4feaca1cc73e5126a8d55eee425daa6755c57fd7272f2');
INSERT INTO public.transfer VALUES (7, 7, 'move', 3, 1, 'CNY', 106, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x7bc0d064e84970801213342c3f2b10382f01c794404aebaf4a9536d7741c912f');
INSERT INTO public.transfer VALUES (8, 8, 'move', 3, 1, 'CNY', 107, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x1e572f22f9f16ef28c8be325e2ed956b779078ea84ea40e3647b37ba6081c57d');
INSERT INTO public.transfer VALUES (9, 9, 'move', 3, 1, 'CNY', 108, NULL, NULL, 'fund', '2026-01-05T08:00:00.000000Z', '\x3e7ec81e4dfe9b7b455689f7450ec7c88e8aee5ee002bb556fd5a04666c6902a');
INSERT INTO public.transfer VALUES (10, 10, 'hold', 1, 2, 'CNY', 20, NULL, '2026-01-05T09:00:00.000000Z', 'hold', '2026-01-05T08:00:00.000000Z', '\x3da62e6e6de0b4a621ac1ceaba4a5be876618bdde78320e41562beb4efdef0aa');
INSERT INTO public.transfer VALUES (11, 11, 'hold', 1, 2, 'CNY', 30, NULL, '2026-01-05T09:00:00.000000Z', 'hold', '2026-01-05T08:00:00.000000Z', '\xdfa3df968bc1a184ae80437e50f652b539d198c14e4ff17535a1655c316b774a');
INSERT INTO public.transfer VALUES (12, 12, 'post', 1, 2, 'CNY', 5, 10, NULL, 'post', '2026-01-05T08:00:00.000000Z', '\x2dafb10f3bf047b0341c91df1cc8799a7fec24d3b6dd4cd69ac27a5d21bcb216');
SELECT pg_catalog.setval('public.account_id_seq', 3, true);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_id_asset_key UNIQUE (id, asset);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_name_key UNIQUE (name);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.anchor
    ADD CONSTRAINT anchor_pkey PRIMARY KEY (place, batch);
ALTER TABLE ONLY public.asset
    ADD CONSTRAINT asset_pkey PRIMARY KEY (code);
ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.btt_bridge_revision
    ADD CONSTRAINT btt_bridge_revision_pkey PRIMARY KEY (version_num);
ALTER TABLE ONLY public.drained
    ADD CONSTRAINT drained_pkey PRIMARY KEY (sink);
ALTER TABLE ONLY public.hindrance
    ADD CONSTRAINT hindrance_pkey PRIMARY KEY (sink);
ALTER TABLE ONLY public.open_hold
    ADD CONSTRAINT open_hold_pkey PRIMARY KEY (hold);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_account_sequence_key UNIQUE (account, sequence);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (posting);
ALTER TABLE ONLY public.posting
    ADD CONSTRAINT posting_issuer_key_key UNIQUE (issuer, key);
ALTER TABLE ONLY public.posting
    ADD CONSTRAINT posting_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.reward_claim
    ADD CONSTRAINT reward_claim_pkey PRIMARY KEY (fact, patient);
ALTER TABLE ONLY public.transfer
    ADD CONSTRAINT transfer_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX hold_resolved_once ON public.transfer USING btree (hold) WHERE (hold IS NOT NULL);
CREATE INDEX open_hold_due ON public.open_hold USING btree (expires_at);
CREATE INDEX outbox_by_type ON public.outbox USING btree (type, posting);
CREATE INDEX transfer_by_credit ON public.transfer USING btree (credit, id);
CREATE INDEX transfer_by_debit ON public.transfer USING btree (debit, id);
CREATE INDEX transfer_by_posting ON public.transfer USING btree (posting);
CREATE TRIGGER account_changes BEFORE INSERT OR DELETE OR UPDATE ON public.account FOR EACH ROW EXECUTE FUNCTION public.ledger_account();
CREATE TRIGGER account_no_truncate BEFORE TRUNCATE ON public.account FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER asset_no_change BEFORE DELETE OR UPDATE ON public.asset FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER asset_no_truncate BEFORE TRUNCATE ON public.asset FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER batch_no_change BEFORE DELETE OR UPDATE ON public.batch FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER batch_no_truncate BEFORE TRUNCATE ON public.batch FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER outbox_no_change BEFORE DELETE OR UPDATE ON public.outbox FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER outbox_no_truncate BEFORE TRUNCATE ON public.outbox FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER posting_follows AFTER INSERT ON public.posting REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_posting();
CREATE TRIGGER posting_no_change BEFORE DELETE OR UPDATE ON public.posting FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER posting_no_truncate BEFORE TRUNCATE ON public.posting FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER transfer_keeps_totals AFTER INSERT ON public.transfer REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_transfer();
CREATE TRIGGER transfer_no_change BEFORE DELETE OR UPDATE ON public.transfer FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse();
CREATE TRIGGER transfer_no_truncate BEFORE TRUNCATE ON public.transfer FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse();
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_asset_fkey FOREIGN KEY (asset) REFERENCES public.asset(code);
ALTER TABLE ONLY public.anchor
    ADD CONSTRAINT anchor_batch_fkey FOREIGN KEY (batch) REFERENCES public.batch(id);
ALTER TABLE ONLY public.open_hold
    ADD CONSTRAINT open_hold_hold_fkey FOREIGN KEY (hold) REFERENCES public.transfer(id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_account_fkey FOREIGN KEY (account) REFERENCES public.account(id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_posting_fkey FOREIGN KEY (posting) REFERENCES public.posting(id);
ALTER TABLE ONLY public.transfer
    ADD CONSTRAINT transfer_credit_asset_fkey FOREIGN KEY (credit, asset) REFERENCES public.account(id, asset);
ALTER TABLE ONLY public.transfer
    ADD CONSTRAINT transfer_debit_asset_fkey FOREIGN KEY (debit, asset) REFERENCES public.account(id, asset);
ALTER TABLE ONLY public.transfer
    ADD CONSTRAINT transfer_hold_fkey FOREIGN KEY (hold) REFERENCES public.transfer(id);
ALTER TABLE ONLY public.transfer
    ADD CONSTRAINT transfer_posting_fkey FOREIGN KEY (posting) REFERENCES public.posting(id);
