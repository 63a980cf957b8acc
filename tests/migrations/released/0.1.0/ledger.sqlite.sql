BEGIN TRANSACTION;
CREATE TABLE account (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	asset VARCHAR(8) NOT NULL, 
	credit_limit VARCHAR(38), 
	debits_posted VARCHAR(38) NOT NULL, 
	credits_posted VARCHAR(38) NOT NULL, 
	debits_pending VARCHAR(38) NOT NULL, 
	credits_pending VARCHAR(38) NOT NULL, 
	last_transfer INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (id, asset), 
	CONSTRAINT name_is_plain CHECK (name <> '' AND name NOT GLOB '*[^a-z0-9:._-]*'), 
	CONSTRAINT credit_limit_is_whole CHECK (credit_limit IS NULL OR (typeof(credit_limit) = 'text' AND length(credit_limit) = 38 AND credit_limit NOT GLOB '*[^0-9]*')), 
	CONSTRAINT debits_posted_is_whole CHECK ((typeof(debits_posted) = 'text' AND length(debits_posted) = 38 AND debits_posted NOT GLOB '*[^0-9]*')), 
	CONSTRAINT credits_posted_is_whole CHECK ((typeof(credits_posted) = 'text' AND length(credits_posted) = 38 AND credits_posted NOT GLOB '*[^0-9]*')), 
	CONSTRAINT debits_pending_is_whole CHECK ((typeof(debits_pending) = 'text' AND length(debits_pending) = 38 AND debits_pending NOT GLOB '*[^0-9]*')), 
	CONSTRAINT credits_pending_is_whole CHECK ((typeof(credits_pending) = 'text' AND length(credits_pending) = 38 AND credits_pending NOT GLOB '*[^0-9]*')), 
	CONSTRAINT account_is_covered CHECK (credit_limit IS NULL OR (CASE WHEN max(debits_posted, debits_pending) < '00000000000000000001000000000000000000' THEN printf('%039d', CAST(debits_posted AS INTEGER) + CAST(debits_pending AS INTEGER)) ELSE printf('%03d%018d%018d', (CAST(substr(debits_posted, 1, 2) AS INTEGER) + CAST(substr(debits_pending, 1, 2) AS INTEGER) + (CAST(substr(debits_posted, 3, 18) AS INTEGER) + CAST(substr(debits_pending, 3, 18) AS INTEGER) + (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(debits_pending, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_posted, 3, 18) AS INTEGER) + CAST(substr(debits_pending, 3, 18) AS INTEGER) + (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(debits_pending, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(debits_pending, 21, 18) AS INTEGER)) % 1000000000000000000) END) <= (CASE WHEN max(credits_posted, credit_limit) < '00000000000000000001000000000000000000' THEN printf('%039d', CAST(credits_posted AS INTEGER) + CAST(credit_limit AS INTEGER)) ELSE printf('%03d%018d%018d', (CAST(substr(credits_posted, 1, 2) AS INTEGER) + CAST(substr(credit_limit, 1, 2) AS INTEGER) + (CAST(substr(credits_posted, 3, 18) AS INTEGER) + CAST(substr(credit_limit, 3, 18) AS INTEGER) + (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(credit_limit, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_posted, 3, 18) AS INTEGER) + CAST(substr(credit_limit, 3, 18) AS INTEGER) + (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(credit_limit, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(credit_limit, 21, 18) AS INTEGER)) % 1000000000000000000) END)), 
	UNIQUE (name), 
	FOREIGN KEY(asset) REFERENCES asset (code)
);
INSERT INTO "account" VALUES(1,'a:cny','CNY','00000000000000000000000000000000000000','00000000000000000000000000000000000005','00000000000000000000000000000000000936','00000000000000000000000000000000000030','00000000000000000000000000000000000000',12);
INSERT INTO "account" VALUES(2,'b:cny','CNY','00000000000000000000000000000000000000','00000000000000000000000000000000000000','00000000000000000000000000000000000005','00000000000000000000000000000000000000','00000000000000000000000000000000000030',12);
INSERT INTO "account" VALUES(3,'world:cny','CNY',NULL,'00000000000000000000000000000000000936','00000000000000000000000000000000000000','00000000000000000000000000000000000000','00000000000000000000000000000000000000',9);
CREATE TABLE anchor (
	place VARCHAR(128) NOT NULL, 
	batch INTEGER NOT NULL, 
	standing VARCHAR(8) NOT NULL, 
	"transaction" VARCHAR(128) NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (place, batch), 
	FOREIGN KEY(batch) REFERENCES batch (id)
);
INSERT INTO "anchor" VALUES('place',1,'posted','0x1','2026-01-05T08:00:00.000000Z');
CREATE TABLE asset (
	code VARCHAR(8) NOT NULL, 
	scale SMALLINT NOT NULL, 
	PRIMARY KEY (code), 
	CONSTRAINT scale_is_sane CHECK (scale BETWEEN 0 AND 18), 
	CONSTRAINT code_is_plain CHECK (code <> '' AND code NOT GLOB '*[^A-Z]*')
);
INSERT INTO "asset" VALUES('CNY',2);
CREATE TABLE batch (
	id INTEGER NOT NULL, 
	first_transfer INTEGER NOT NULL, 
	last_transfer INTEGER NOT NULL, 
	root BLOB NOT NULL, 
	envelope TEXT NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "batch" VALUES(1,1,12,X'E9FEC0D0C333F94DE513EE06315D1FBEFDC0BBEF7081812B7BEBB94DF9EDFC66','{"kind": "btt.settlement-batch", "payload": "eyJhdCI6IjIwMjYtMDEtMDVUMDg6MDA6MDAuMDAwMDAwWiIsImJhdGNoIjoxLCJmaXJzdF90cmFuc2ZlciI6MSwibGFzdF90cmFuc2ZlciI6MTIsInByZXZpb3VzX3Jvb3QiOiIiLCJyb290IjoiZTlmZWMwZDBjMzMzZjk0ZGU1MTNlZTA2MzE1ZDFmYmVmZGMwYmJlZjcwODE4MTJiN2JlYmI5NGRmOWVkZmM2NiJ9", "key": "f929c28c6b409394522c1dd5ffedbaa70246a2e8bc93598991268a77285f5376", "signature": "oAF2T4uYExiSphusKJMXwajBTS2J/9/0SE/Nck0WDrBLqHrgRunITu10S3Y/VSneR44xC1/JF9NJCd65FNT4CA=="}','2026-01-05T08:00:00.000000Z');
CREATE TABLE btt_bridge_revision (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "btt_bridge_revision" VALUES('ledger_0001');
INSERT INTO "btt_bridge_revision" VALUES('claims_0001');
CREATE TABLE drained (
	sink VARCHAR(64) NOT NULL, 
	position INTEGER NOT NULL, 
	PRIMARY KEY (sink)
);
INSERT INTO "drained" VALUES('file',3);
CREATE TABLE hindrance (
	sink VARCHAR(64) NOT NULL, 
	stopped BOOLEAN NOT NULL, 
	reason VARCHAR(255) NOT NULL, 
	advice VARCHAR(255) NOT NULL, 
	since VARCHAR(32) NOT NULL, 
	PRIMARY KEY (sink)
);
INSERT INTO "hindrance" VALUES('webhook',1,'no answer','look at it','2026-01-05T08:00:00.000000Z');
CREATE TABLE open_hold (
	hold INTEGER NOT NULL, 
	expires_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (hold), 
	FOREIGN KEY(hold) REFERENCES transfer (id)
);
INSERT INTO "open_hold" VALUES(11,'2026-01-05T09:00:00.000000Z');
CREATE TABLE outbox (
	posting INTEGER NOT NULL, 
	account INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	type VARCHAR(64) NOT NULL, 
	data TEXT NOT NULL, 
	PRIMARY KEY (posting), 
	UNIQUE (account, sequence), 
	FOREIGN KEY(posting) REFERENCES posting (id), 
	FOREIGN KEY(account) REFERENCES account (id)
);
INSERT INTO "outbox" VALUES(1,1,1,'btt.test.v1','{"n":0}');
INSERT INTO "outbox" VALUES(2,1,2,'btt.test.v1','{"n":1}');
INSERT INTO "outbox" VALUES(3,1,3,'btt.test.v1','{"n":2}');
INSERT INTO "outbox" VALUES(4,1,4,'btt.test.v1','{"n":3}');
INSERT INTO "outbox" VALUES(5,1,5,'btt.test.v1','{"n":4}');
INSERT INTO "outbox" VALUES(6,1,6,'btt.test.v1','{"n":5}');
INSERT INTO "outbox" VALUES(7,1,7,'btt.test.v1','{"n":6}');
INSERT INTO "outbox" VALUES(8,1,8,'btt.test.v1','{"n":7}');
INSERT INTO "outbox" VALUES(9,1,9,'btt.test.v1','{"n":8}');
CREATE TABLE posting (
	id INTEGER NOT NULL, 
	issuer VARCHAR(64) NOT NULL, 
	"key" VARCHAR(200) NOT NULL, 
	digest BLOB NOT NULL, 
	event BLOB NOT NULL, 
	transfers INTEGER NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (issuer, "key"), 
	CONSTRAINT posting_has_transfers CHECK (transfers > 0), 
	CONSTRAINT issuer_is_plain CHECK (issuer <> '' AND issuer NOT GLOB '*[^A-Za-z0-9:._-]*'), 
	CONSTRAINT key_is_plain CHECK (key <> '' AND key NOT GLOB '*[^A-Za-z0-9:._-]*')
);
INSERT INTO "posting" VALUES(1,'t','m0',X'72341C185997D7A329147DE19600FF7893C8754BC01362FD719BE18AF5FEDC8B',X'FCA5AF6421BB2199301387B00A02E2B8C64EDB4ED31B6CAC4E177ADEA1562769',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(2,'t','m1',X'6EC2F6611A26B156EA141E291927DF21774193E92A21116C9D3BE3C92A6457BA',X'60EAFD93B3452CD3FA7737DA946648341CA331A5B28A29957ABC917E2DF08CB2',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(3,'t','m2',X'4BCE43787F96E71141F409EA3BA732E80A22AB9B79FEBDB3BACC84E46195D443',X'713D7B65E2772892639C12EC718FC2CFF2EB9D4DE03D6AEB9AA4B13112D6A758',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(4,'t','m3',X'61AD7CE546CB72EDF38FF5D195022FED820379CF5C52772AC5D3FD13440E49F6',X'079C699C02DC5EB51F50B3EC026DE4B6596595690DDCF95AE07FA837D87E5276',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(5,'t','m4',X'1ED42711D2FBF23AEC4294F4D9291A679692DC86F02E7BCF108B8FE8ED49EDD2',X'F55D8F9EB605B4F4274A92C8FC4035E8AB1D52D1B3E6EDB9C72B687B3A8C6B42',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(6,'t','m5',X'4A10D9B2592DA3A25A5DE3BE58681732AAEBDEA72A9C66F2382022A7406D4BF3',X'C718AEFE5C26E540764672039748FEF51E57A8612AD3EC32C18BEFB6776B255B',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(7,'t','m6',X'23D598C601456B935148071F4B337F983CFAB4E4091C51B2B363D8C61803418D',X'E2C9349417707D268BB74188C67B8C7FE0F98D3CF4A53762C08F9D6844BC44C9',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(8,'t','m7',X'E7568A40530E8621D9E7640384C1EC3CE0D4419E196F2681C65D2350A63301CC',X'AA308E6D7EAE1365975C783CA877652E5E89FD758179C3391D53A1825BCD3A81',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(9,'t','m8',X'889DC7B92DDF6035242D15DCF1C29E9732EF2396928580D0BD7295558DD53AFB',X'161C88C3C6AEC9624284DBA6E0190BD16A95F4E21EF115E2C6FE70F4BD3C8818',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(10,'t','h1',X'EDD481A37BE98BFD51EF0DE313D005ABE5E2E7220E9DF889C8B5BFCF058EDF90',X'',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(11,'t','h2',X'63DE50780D91243A612D1AB64C410A56735643B4602894AD5002D8339F9DFC87',X'',1,'2026-01-05T08:00:00.000000Z');
INSERT INTO "posting" VALUES(12,'t','p1',X'48EBB3A6CBEF887C49AC9C93B08B57657D5D9E54917CDE76526450D056C12298',X'',1,'2026-01-05T08:00:00.000000Z');
CREATE TABLE reward_claim (
	fact VARCHAR(32) NOT NULL, 
	patient VARCHAR(64) NOT NULL, 
	rank VARCHAR(96) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	retracted BOOLEAN NOT NULL, 
	unmet TEXT NOT NULL, 
	PRIMARY KEY (fact, patient)
);
INSERT INTO "reward_claim" VALUES('fact','patient','rank','digest',0,'p/r');
CREATE TABLE transfer (
	id INTEGER NOT NULL, 
	posting INTEGER NOT NULL, 
	kind VARCHAR(6) NOT NULL, 
	debit INTEGER NOT NULL, 
	credit INTEGER NOT NULL, 
	asset VARCHAR(8) NOT NULL, 
	amount VARCHAR(38) NOT NULL, 
	hold INTEGER, 
	expires_at VARCHAR(32), 
	reason VARCHAR(64) NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	hash BLOB NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(debit, asset) REFERENCES account (id, asset), 
	FOREIGN KEY(credit, asset) REFERENCES account (id, asset), 
	CONSTRAINT transfer_has_two_sides CHECK (debit <> credit), 
	CONSTRAINT transfer_kind CHECK (kind IN ('move', 'hold', 'post', 'void', 'expire')), 
	CONSTRAINT transfer_resolves_a_hold CHECK ((kind IN ('post', 'void', 'expire')) = (hold IS NOT NULL)), 
	CONSTRAINT transfer_hold_expires CHECK ((kind = 'hold') = (expires_at IS NOT NULL)), 
	CONSTRAINT amount_is_whole CHECK ((typeof(amount) = 'text' AND length(amount) = 38 AND amount NOT GLOB '*[^0-9]*' AND amount > '00000000000000000000000000000000000000')), 
	CONSTRAINT reason_is_plain CHECK (reason <> '' AND reason NOT GLOB '*[^a-z0-9 -]*'), 
	FOREIGN KEY(posting) REFERENCES posting (id), 
	FOREIGN KEY(hold) REFERENCES transfer (id)
);
INSERT INTO "transfer" VALUES(1,1,'move',3,1,'CNY','00000000000000000000000000000000000100',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'406471E438638FBC351028EDBAD4FA8F120D36926252EAB41D723300A152FAF0');
INSERT INTO "transfer" VALUES(2,2,'move',3,1,'CNY','00000000000000000000000000000000000101',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'51CA2B788367F368C5952EF651F53ACCABCA8233C2B473282F6C1E73C514A457');
INSERT INTO "transfer" VALUES(3,3,'move',3,1,'CNY','00000000000000000000000000000000000102',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'2BFF7A391ED0C9D3520C1A24044EF96FA9EA8BF8699EA28C723E9E27D4F20F2E');
INSERT INTO "transfer" VALUES(4,4,'move',3,1,'CNY','00000000000000000000000000000000000103',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'0CFBFCC900E4881F73356AB3ECA730F0FACB525BBEB1A80F83A303483426E0C7');
INSERT INTO "transfer" VALUES(5,5,'move',3,1,'CNY','00000000000000000000000000000000000104',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'A558FC1FE71F15A0064387B97661491F71A02DF5387010D04118BA4143A2D31A');
INSERT INTO "transfer" VALUES(6,6,'move',3,1,'CNY','00000000000000000000000000000000000105',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'D9ED96495A1256E98AE4FEACA1CC73E5126A8D55EEE425DAA6755C57FD7272F2');
INSERT INTO "transfer" VALUES(7,7,'move',3,1,'CNY','00000000000000000000000000000000000106',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'7BC0D064E84970801213342C3F2B10382F01C794404AEBAF4A9536D7741C912F');
INSERT INTO "transfer" VALUES(8,8,'move',3,1,'CNY','00000000000000000000000000000000000107',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'1E572F22F9F16EF28C8BE325E2ED956B779078EA84EA40E3647B37BA6081C57D');
INSERT INTO "transfer" VALUES(9,9,'move',3,1,'CNY','00000000000000000000000000000000000108',NULL,NULL,'fund','2026-01-05T08:00:00.000000Z',X'3E7EC81E4DFE9B7B455689F7450EC7C88E8AEE5EE002BB556FD5A04666C6902A');
INSERT INTO "transfer" VALUES(10,10,'hold',1,2,'CNY','00000000000000000000000000000000000020',NULL,'2026-01-05T09:00:00.000000Z','hold','2026-01-05T08:00:00.000000Z',X'3DA62E6E6DE0B4A621AC1CEABA4A5BE876618BDDE78320E41562BEB4EFDEF0AA');
INSERT INTO "transfer" VALUES(11,11,'hold',1,2,'CNY','00000000000000000000000000000000000030',NULL,'2026-01-05T09:00:00.000000Z','hold','2026-01-05T08:00:00.000000Z',X'DFA3DF968BC1A184AE80437E50F652B539D198C14E4FF17535A1655C316B774A');
INSERT INTO "transfer" VALUES(12,12,'post',1,2,'CNY','00000000000000000000000000000000000005',10,NULL,'post','2026-01-05T08:00:00.000000Z',X'2DAFB10F3BF047B0341C91DF1CC8799A7FEC24D3B6DD4CD69AC27A5D21BCB216');
CREATE TRIGGER asset_no_update BEFORE UPDATE ON asset BEGIN SELECT RAISE(ABORT, 'asset rows are never changed or deleted'); END;
CREATE TRIGGER asset_no_delete BEFORE DELETE ON asset BEGIN SELECT RAISE(ABORT, 'asset rows are never changed or deleted'); END;
CREATE TRIGGER asset_no_replace BEFORE INSERT ON asset WHEN EXISTS (SELECT 1 FROM asset WHERE code = NEW.code) BEGIN SELECT RAISE(ABORT, 'asset rows are never replaced'); END;
CREATE TRIGGER posting_no_update BEFORE UPDATE ON posting BEGIN SELECT RAISE(ABORT, 'posting rows are never changed or deleted'); END;
CREATE TRIGGER posting_no_delete BEFORE DELETE ON posting BEGIN SELECT RAISE(ABORT, 'posting rows are never changed or deleted'); END;
CREATE TRIGGER posting_no_replace BEFORE INSERT ON posting WHEN EXISTS (SELECT 1 FROM posting WHERE id = NEW.id OR (issuer = NEW.issuer AND key = NEW.key)) BEGIN SELECT RAISE(ABORT, 'posting rows are never replaced'); END;
CREATE TRIGGER posting_follows BEFORE INSERT ON posting
WHEN NEW.id <> coalesce((SELECT id + transfers FROM posting ORDER BY id DESC LIMIT 1), 1)
BEGIN SELECT RAISE(ABORT, 'a posting begins where the one before it ends'); END;
CREATE TRIGGER batch_no_update BEFORE UPDATE ON batch BEGIN SELECT RAISE(ABORT, 'batch rows are never changed or deleted'); END;
CREATE TRIGGER batch_no_delete BEFORE DELETE ON batch BEGIN SELECT RAISE(ABORT, 'batch rows are never changed or deleted'); END;
CREATE TRIGGER batch_no_replace BEFORE INSERT ON batch WHEN EXISTS (SELECT 1 FROM batch WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'batch rows are never replaced'); END;
CREATE TRIGGER account_opens BEFORE INSERT ON account BEGIN SELECT CASE
    WHEN EXISTS (SELECT 1 FROM account WHERE id = NEW.id OR name = NEW.name)
        THEN RAISE(ABORT, 'account rows are never replaced')
    WHEN NEW.last_transfer <> 0 OR NEW.debits_posted <> '00000000000000000000000000000000000000' OR NEW.credits_posted <> '00000000000000000000000000000000000000'
        OR NEW.debits_pending <> '00000000000000000000000000000000000000' OR NEW.credits_pending <> '00000000000000000000000000000000000000'
        THEN RAISE(ABORT, 'an account opens at zero')
END; END;
CREATE TRIGGER account_changes BEFORE UPDATE ON account BEGIN SELECT CASE
    WHEN NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.asset <> OLD.asset THEN RAISE(ABORT, 'name and asset of an account are fixed')
    WHEN NOT (NEW.debits_posted = OLD.debits_posted AND NEW.credits_posted = OLD.credits_posted AND NEW.debits_pending = OLD.debits_pending AND NEW.credits_pending = OLD.credits_pending AND NEW.last_transfer = OLD.last_transfer) AND NOT (NEW.last_transfer > OLD.last_transfer AND EXISTS (SELECT 1 FROM transfer WHERE id = NEW.last_transfer AND NEW.id IN (debit, credit))) THEN RAISE(ABORT, 'totals of an account follow from its transfers')
END; END;
CREATE TRIGGER account_no_delete BEFORE DELETE ON account BEGIN SELECT RAISE(ABORT, 'account rows are never deleted'); END;
CREATE INDEX transfer_by_credit ON transfer (credit, id);
CREATE UNIQUE INDEX hold_resolved_once ON transfer (hold) WHERE hold IS NOT NULL;
CREATE INDEX transfer_by_posting ON transfer (posting);
CREATE INDEX transfer_by_debit ON transfer (debit, id);
CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer BEGIN SELECT RAISE(ABORT, 'transfer rows are never changed or deleted'); END;
CREATE TRIGGER transfer_no_delete BEFORE DELETE ON transfer BEGIN SELECT RAISE(ABORT, 'transfer rows are never changed or deleted'); END;
CREATE TRIGGER transfer_checks BEFORE INSERT ON transfer BEGIN SELECT CASE
    WHEN NEW.id <> 1 + coalesce((SELECT max(id) FROM transfer), 0) THEN RAISE(ABORT, 'transfer ids have no gaps')
    WHEN NOT EXISTS (SELECT 1 FROM posting WHERE id = NEW.posting AND NEW.id BETWEEN id AND id + transfers - 1)
        THEN RAISE(ABORT, 'a transfer belongs to a posting')
    WHEN NOT EXISTS (SELECT 1 FROM account WHERE id = NEW.debit AND asset = NEW.asset)
        OR NOT EXISTS (SELECT 1 FROM account WHERE id = NEW.credit AND asset = NEW.asset)
        THEN RAISE(ABORT, 'both accounts exist and hold the asset')
    WHEN NEW.hold IS NOT NULL AND EXISTS (SELECT 1 FROM transfer WHERE hold = NEW.hold)
        THEN RAISE(ABORT, 'the hold was resolved before')
    WHEN NEW.hold IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM transfer h WHERE h.id = NEW.hold AND h.kind = 'hold' AND h.debit = NEW.debit AND h.credit = NEW.credit AND h.asset = NEW.asset
        AND h.amount >= NEW.amount AND (NEW.kind = 'post' OR h.amount = NEW.amount)
        AND (NEW.kind <> 'post' OR NEW.at < h.expires_at)
        AND (NEW.kind <> 'expire' OR NEW.at >= h.expires_at))
        THEN RAISE(ABORT, 'the transfer does not match its hold')
END; END;
CREATE TRIGGER transfer_move AFTER INSERT ON transfer WHEN NEW.kind = 'move' BEGIN
    UPDATE account SET debits_posted = CASE WHEN max(debits_posted, NEW.amount) < '00000000000000000001000000000000000000' THEN printf('%038d', CAST(debits_posted AS INTEGER) + CAST(NEW.amount AS INTEGER)) ELSE printf('%02d%018d%018d', (CAST(substr(debits_posted, 1, 2) AS INTEGER) + CAST(substr(NEW.amount, 1, 2) AS INTEGER) + (CAST(substr(debits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) % 1000000000000000000) END, last_transfer = NEW.id  WHERE account.id = NEW.debit;
    UPDATE account SET credits_posted = CASE WHEN max(credits_posted, NEW.amount) < '00000000000000000001000000000000000000' THEN printf('%038d', CAST(credits_posted AS INTEGER) + CAST(NEW.amount AS INTEGER)) ELSE printf('%02d%018d%018d', (CAST(substr(credits_posted, 1, 2) AS INTEGER) + CAST(substr(NEW.amount, 1, 2) AS INTEGER) + (CAST(substr(credits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) % 1000000000000000000) END, last_transfer = NEW.id  WHERE account.id = NEW.credit;
    
    -- An outer INSERT OR IGNORE makes the updates above fail silently; this does not.
    SELECT RAISE(ABORT, 'account_is_covered')
    WHERE (SELECT count(*) FROM account WHERE id IN (NEW.debit, NEW.credit) AND last_transfer = NEW.id) <> 2;
END;
CREATE TRIGGER transfer_hold AFTER INSERT ON transfer WHEN NEW.kind = 'hold' BEGIN
    UPDATE account SET debits_pending = CASE WHEN max(debits_pending, NEW.amount) < '00000000000000000001000000000000000000' THEN printf('%038d', CAST(debits_pending AS INTEGER) + CAST(NEW.amount AS INTEGER)) ELSE printf('%02d%018d%018d', (CAST(substr(debits_pending, 1, 2) AS INTEGER) + CAST(substr(NEW.amount, 1, 2) AS INTEGER) + (CAST(substr(debits_pending, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(debits_pending, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_pending, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(debits_pending, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_pending, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) % 1000000000000000000) END, last_transfer = NEW.id  WHERE account.id = NEW.debit;
    UPDATE account SET credits_pending = CASE WHEN max(credits_pending, NEW.amount) < '00000000000000000001000000000000000000' THEN printf('%038d', CAST(credits_pending AS INTEGER) + CAST(NEW.amount AS INTEGER)) ELSE printf('%02d%018d%018d', (CAST(substr(credits_pending, 1, 2) AS INTEGER) + CAST(substr(NEW.amount, 1, 2) AS INTEGER) + (CAST(substr(credits_pending, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(credits_pending, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_pending, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(credits_pending, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_pending, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) % 1000000000000000000) END, last_transfer = NEW.id  WHERE account.id = NEW.credit;
    INSERT INTO open_hold (hold, expires_at) VALUES (NEW.id, NEW.expires_at);
    -- An outer INSERT OR IGNORE makes the updates above fail silently; this does not.
    SELECT RAISE(ABORT, 'account_is_covered')
    WHERE (SELECT count(*) FROM account WHERE id IN (NEW.debit, NEW.credit) AND last_transfer = NEW.id) <> 2;
END;
CREATE TRIGGER transfer_post AFTER INSERT ON transfer WHEN NEW.kind = 'post' BEGIN
    UPDATE account SET debits_posted = CASE WHEN max(debits_posted, NEW.amount) < '00000000000000000001000000000000000000' THEN printf('%038d', CAST(debits_posted AS INTEGER) + CAST(NEW.amount AS INTEGER)) ELSE printf('%02d%018d%018d', (CAST(substr(debits_posted, 1, 2) AS INTEGER) + CAST(substr(NEW.amount, 1, 2) AS INTEGER) + (CAST(substr(debits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) % 1000000000000000000) END, debits_pending = printf('%02d%018d%018d', (CAST(substr(debits_pending, 1, 2) AS INTEGER) - CAST(substr(held.amount, 1, 2) AS INTEGER) - 1 + (CAST(substr(debits_pending, 3, 18) AS INTEGER) - CAST(substr(held.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(held.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_pending, 3, 18) AS INTEGER) - CAST(substr(held.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(held.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(held.amount, 21, 18) AS INTEGER) + 1000000000000000000) % 1000000000000000000), last_transfer = NEW.id FROM (SELECT amount FROM transfer WHERE id = NEW.hold) held WHERE account.id = NEW.debit;
    UPDATE account SET credits_posted = CASE WHEN max(credits_posted, NEW.amount) < '00000000000000000001000000000000000000' THEN printf('%038d', CAST(credits_posted AS INTEGER) + CAST(NEW.amount AS INTEGER)) ELSE printf('%02d%018d%018d', (CAST(substr(credits_posted, 1, 2) AS INTEGER) + CAST(substr(NEW.amount, 1, 2) AS INTEGER) + (CAST(substr(credits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_posted, 3, 18) AS INTEGER) + CAST(substr(NEW.amount, 3, 18) AS INTEGER) + (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_posted, 21, 18) AS INTEGER) + CAST(substr(NEW.amount, 21, 18) AS INTEGER)) % 1000000000000000000) END, credits_pending = printf('%02d%018d%018d', (CAST(substr(credits_pending, 1, 2) AS INTEGER) - CAST(substr(held.amount, 1, 2) AS INTEGER) - 1 + (CAST(substr(credits_pending, 3, 18) AS INTEGER) - CAST(substr(held.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(held.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_pending, 3, 18) AS INTEGER) - CAST(substr(held.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(held.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(held.amount, 21, 18) AS INTEGER) + 1000000000000000000) % 1000000000000000000), last_transfer = NEW.id FROM (SELECT amount FROM transfer WHERE id = NEW.hold) held WHERE account.id = NEW.credit;
    DELETE FROM open_hold WHERE hold = NEW.hold;
    -- An outer INSERT OR IGNORE makes the updates above fail silently; this does not.
    SELECT RAISE(ABORT, 'account_is_covered')
    WHERE (SELECT count(*) FROM account WHERE id IN (NEW.debit, NEW.credit) AND last_transfer = NEW.id) <> 2;
END;
CREATE TRIGGER transfer_void AFTER INSERT ON transfer WHEN NEW.kind = 'void' BEGIN
    UPDATE account SET debits_pending = printf('%02d%018d%018d', (CAST(substr(debits_pending, 1, 2) AS INTEGER) - CAST(substr(NEW.amount, 1, 2) AS INTEGER) - 1 + (CAST(substr(debits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) % 1000000000000000000), last_transfer = NEW.id  WHERE account.id = NEW.debit;
    UPDATE account SET credits_pending = printf('%02d%018d%018d', (CAST(substr(credits_pending, 1, 2) AS INTEGER) - CAST(substr(NEW.amount, 1, 2) AS INTEGER) - 1 + (CAST(substr(credits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) % 1000000000000000000), last_transfer = NEW.id  WHERE account.id = NEW.credit;
    DELETE FROM open_hold WHERE hold = NEW.hold;
    -- An outer INSERT OR IGNORE makes the updates above fail silently; this does not.
    SELECT RAISE(ABORT, 'account_is_covered')
    WHERE (SELECT count(*) FROM account WHERE id IN (NEW.debit, NEW.credit) AND last_transfer = NEW.id) <> 2;
END;
CREATE TRIGGER transfer_expire AFTER INSERT ON transfer WHEN NEW.kind = 'expire' BEGIN
    UPDATE account SET debits_pending = printf('%02d%018d%018d', (CAST(substr(debits_pending, 1, 2) AS INTEGER) - CAST(substr(NEW.amount, 1, 2) AS INTEGER) - 1 + (CAST(substr(debits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) / 1000000000000000000), (CAST(substr(debits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) % 1000000000000000000, (CAST(substr(debits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) % 1000000000000000000), last_transfer = NEW.id  WHERE account.id = NEW.debit;
    UPDATE account SET credits_pending = printf('%02d%018d%018d', (CAST(substr(credits_pending, 1, 2) AS INTEGER) - CAST(substr(NEW.amount, 1, 2) AS INTEGER) - 1 + (CAST(substr(credits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) / 1000000000000000000), (CAST(substr(credits_pending, 3, 18) AS INTEGER) - CAST(substr(NEW.amount, 3, 18) AS INTEGER) + 1000000000000000000 - 1 + (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) / 1000000000000000000) % 1000000000000000000, (CAST(substr(credits_pending, 21, 18) AS INTEGER) - CAST(substr(NEW.amount, 21, 18) AS INTEGER) + 1000000000000000000) % 1000000000000000000), last_transfer = NEW.id  WHERE account.id = NEW.credit;
    DELETE FROM open_hold WHERE hold = NEW.hold;
    -- An outer INSERT OR IGNORE makes the updates above fail silently; this does not.
    SELECT RAISE(ABORT, 'account_is_covered')
    WHERE (SELECT count(*) FROM account WHERE id IN (NEW.debit, NEW.credit) AND last_transfer = NEW.id) <> 2;
END;
CREATE INDEX outbox_by_type ON outbox (type, posting);
CREATE TRIGGER outbox_no_update BEFORE UPDATE ON outbox BEGIN SELECT RAISE(ABORT, 'outbox rows are never changed or deleted'); END;
CREATE TRIGGER outbox_no_delete BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'outbox rows are never changed or deleted'); END;
CREATE TRIGGER outbox_no_replace BEFORE INSERT ON outbox WHEN EXISTS (SELECT 1 FROM outbox WHERE posting = NEW.posting OR (account = NEW.account AND sequence = NEW.sequence)) BEGIN SELECT RAISE(ABORT, 'outbox rows are never replaced'); END;
CREATE INDEX open_hold_due ON open_hold (expires_at);
COMMIT;
