BEGIN TRANSACTION;
CREATE TABLE asked (
	payment VARCHAR(64) NOT NULL, 
	request TEXT NOT NULL, 
	PRIMARY KEY (payment)
);
INSERT INTO "asked" VALUES('payment','Claim/c1');
CREATE TABLE btt_bridge_revision (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "btt_bridge_revision" VALUES('journal_0001');
INSERT INTO "btt_bridge_revision" VALUES('inbox_0001');
INSERT INTO "btt_bridge_revision" VALUES('vault_0001');
CREATE TABLE delivery (
	id INTEGER NOT NULL, 
	journey_id INTEGER NOT NULL, 
	destination VARCHAR(64) NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	due_at VARCHAR(32), 
	delivered_at VARCHAR(32), 
	error VARCHAR(255) NOT NULL, 
	advice VARCHAR(255) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (journey_id, destination, sop_instance_uid), 
	FOREIGN KEY(journey_id) REFERENCES journey (id)
);
INSERT INTO "delivery" VALUES(1,1,'pacs','SR','1.2','1.9','key','waiting',0,'2026-01-05T08:00:00.000000Z',NULL,'','');
CREATE TABLE expectation (
	accession_number VARCHAR(64) NOT NULL, 
	instances INTEGER NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (accession_number)
);
INSERT INTO "expectation" VALUES('A1',3,'2026-01-05T08:00:00.000000Z');
CREATE TABLE identity (
	lookup VARCHAR(64) NOT NULL, 
	sealed BLOB NOT NULL, 
	PRIMARY KEY (lookup)
);
INSERT INTO "identity" VALUES('b5bb86b1d0f89c78cb7e97ce9b2ccd935bd5c5506887a9e5121a025248f1a7e7',X'50C6DC05F22B59C209424EEA0C4261ED4EAE29F299855856A59F9B1996CEFD8DD67FEFB7ED17B857EA473A8EC5ED6F6BC0C588E3D569832ED07A5C38CFB4430F86D78E1E5A28B79EDD856013E30971DC7E56787B362460548B7404E2EA80375A5145D1AFDDB25213E260AA760B0E67A657996BD711441FAEC7425FE34386C7D049E36E06016F3C59A3C2CA32CD4872EB477610E4C8118AA049F9B27D5000B45EA2B24764FA80C3E98952A88916143F8DD7E932260CA25ABF7338B776DCC5575D461852CC209E230A07D1334A3C9C735AF686CE5C28AF284B8288');
CREATE TABLE identity_key (
	name VARCHAR(16) NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "identity_key" VALUES('uid','d6f8b387bc1dabda8ad7a149b7f7e5e64e2b4df9c510c0287ee2840b91e870db');
INSERT INTO "identity_key" VALUES('storage','b724f6080ff3dc3bbd9d54cf2fc326af321e015483066ba408bd4610a1b520ae');
CREATE TABLE instance (
	id INTEGER NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	called_ae_title VARCHAR(16) NOT NULL, 
	peer_address VARCHAR(64) NOT NULL, 
	path VARCHAR(255) NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	received_at VARCHAR(32) NOT NULL, 
	flag VARCHAR(16) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	revision INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "instance" VALUES(1,'1.2.3.0','1.2.840.10008.5.1.4.1.1.2','1.2.840.10008.1.2.1','CT1','BTT_BRIDGE','127.0.0.1','0.dcm',100,'2026-01-05T08:00:00.000000Z','','1.2','1.2.3',1);
INSERT INTO "instance" VALUES(2,'1.2.3.1','1.2.840.10008.5.1.4.1.1.2','1.2.840.10008.1.2.1','CT1','BTT_BRIDGE','127.0.0.1','1.dcm',100,'2026-01-05T08:00:00.000000Z','','1.2','1.2.3',1);
INSERT INTO "instance" VALUES(3,'1.2.3.2','1.2.840.10008.5.1.4.1.1.2','1.2.840.10008.1.2.1','CT1','BTT_BRIDGE','127.0.0.1','2.dcm',100,'2026-01-05T08:00:00.000000Z','','1.2','1.2.3',1);
INSERT INTO "instance" VALUES(4,'1.2.3.0','1.2.840.10008.5.1.4.1.1.2','1.2.840.10008.1.2.1','CT2','B','::1','other.dcm',9,'2026-01-05T08:00:00.000000Z','conflict','','',0);
CREATE TABLE journey (
	id INTEGER NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	revision INTEGER NOT NULL, 
	accession_number VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason VARCHAR(255) NOT NULL, 
	facts JSON NOT NULL, 
	offer_id VARCHAR(64) NOT NULL, 
	opened_at VARCHAR(32) NOT NULL, 
	changed_at VARCHAR(32) NOT NULL, 
	due_at VARCHAR(32), 
	attempts INTEGER NOT NULL, 
	claim VARCHAR(32) NOT NULL, 
	claimed_until VARCHAR(32), 
	PRIMARY KEY (id), 
	UNIQUE (study_instance_uid, revision)
);
INSERT INTO "journey" VALUES(1,'1.2',1,'','CT1','stripped','','{"completed": {"seconds": 1.5}, "matched": {"seconds": 1.5}, "stripped": {"seconds": 1.5}, "offer": {"units": 100}}','0ffe2','2026-01-05T08:00:00.000000Z','2026-01-05T08:00:00.000000Z','2026-01-05T08:00:00.000000Z',0,'',NULL);
CREATE TABLE series (
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	keywords JSON NOT NULL, 
	PRIMARY KEY (series_instance_uid, study_instance_uid)
);
INSERT INTO "series" VALUES('1.2.3','1.2','{"Modality": "CT"}');
CREATE TABLE step (
	id INTEGER NOT NULL, 
	journey_id INTEGER NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	event VARCHAR(16) NOT NULL, 
	from_state VARCHAR(16) NOT NULL, 
	to_state VARCHAR(16) NOT NULL, 
	reason VARCHAR(255) NOT NULL, 
	seconds FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(journey_id) REFERENCES journey (id)
);
INSERT INTO "step" VALUES(1,1,'2026-01-05T08:00:00.000000Z','completed','receiving','complete','',0.0);
INSERT INTO "step" VALUES(2,1,'2026-01-05T08:00:00.000000Z','matched','complete','assigned','',0.0);
INSERT INTO "step" VALUES(3,1,'2026-01-05T08:00:00.000000Z','stripped','assigned','stripped','',0.0);
CREATE TABLE swept (
	folder VARCHAR(32) NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (folder)
);
INSERT INTO "swept" VALUES('0123456789ab','2026-01-05T08:00:00.000000Z');
CREATE TABLE told (
	id INTEGER NOT NULL, 
	source VARCHAR(40) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	resource_id VARCHAR(64) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	updated_at VARCHAR(32) NOT NULL, 
	patient VARCHAR(300) NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	content BLOB NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	received_at VARCHAR(32) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	outcome VARCHAR(1000) NOT NULL, 
	attempts INTEGER NOT NULL, 
	due_at VARCHAR(32), 
	PRIMARY KEY (id), 
	UNIQUE (source, kind, resource_id, version)
);
INSERT INTO "told" VALUES(1,'ehr','Appointment','1','1','2026-01-05T08:00:00.000000Z','Patient/1',0,X'00636F6E74656E74','d1','2026-01-05T08:00:00.000000Z','waiting','',0,'2026-01-05T08:00:00.000000Z');
INSERT INTO "told" VALUES(2,'ehr','Appointment','1','2','2026-01-05T08:00:00.000001Z','Patient/1',1,X'','','2026-01-05T08:00:00.000000Z','waiting','',0,'2026-01-05T08:00:00.000000Z');
CREATE INDEX instance_conflict ON instance (sop_instance_uid) WHERE flag = 'conflict';
CREATE INDEX instance_unread ON instance (id) WHERE flag = '' AND study_instance_uid = '';
CREATE UNIQUE INDEX instance_path ON instance (path);
CREATE INDEX instance_in_study ON instance (study_instance_uid, id);
CREATE UNIQUE INDEX instance_in_use ON instance (sop_instance_uid) WHERE (flag NOT IN ('conflict', 'unreadable'));
CREATE INDEX series_of_study ON series (study_instance_uid);
CREATE INDEX journey_accession ON journey (accession_number);
CREATE INDEX journey_due ON journey (due_at);
CREATE INDEX journey_offer ON journey (offer_id);
CREATE INDEX ix_step_journey_id ON step (journey_id);
CREATE INDEX delivery_due ON delivery (state, due_at);
CREATE INDEX told_due ON told (due_at);
CREATE INDEX told_patient ON told (patient, kind);
COMMIT;
