BEGIN TRANSACTION;
CREATE TABLE scrapedo_schema_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT scrapedo_schema_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "scrapedo_schema_version" VALUES('0001');
CREATE TABLE scrapedo_submissions (
	id INTEGER NOT NULL, 
	account VARCHAR(32) NOT NULL, 
	dataset VARCHAR(255) NOT NULL, 
	partition TEXT NOT NULL, 
	generation INTEGER NOT NULL, 
	batch INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	entries BLOB NOT NULL, 
	target_count INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	claim VARCHAR(32), 
	job_id VARCHAR(128), 
	task_ids BLOB, 
	run_id VARCHAR(255), 
	reason TEXT, 
	credits INTEGER, 
	succeeded INTEGER, 
	planned_at DATETIME NOT NULL, 
	claimed_at DATETIME, 
	submitted_at DATETIME, 
	finished_at DATETIME, 
	collected_at DATETIME, 
	expires_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT scrapedo_one_batch UNIQUE (account, dataset, partition, generation, batch), 
	CONSTRAINT scrapedo_one_job UNIQUE (account, job_id)
);
INSERT INTO "scrapedo_submissions" VALUES(1,'0123456789abcdef0123456789abcdef','shop','"mon"',1,0,0,'collected',X'789C8B8E36D051CA28292928B6D2D74FD44BAD48CC2DC849D557D2C92BCDC90113B13AD186D894C4941A18A4252BE9281567974294C7C60200FB6D19F2',2,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',NULL,'job-1',X'789C8B562A3154D2512A31528A0500108B02B8','run-1',NULL,2,1,'2026-01-02 03:04:06.678901','2026-01-02 03:04:07.678901','2026-01-02 03:04:08.678901','2026-01-02 03:04:09.678901','2026-01-02 03:04:10.678901',NULL);
INSERT INTO "scrapedo_submissions" VALUES(2,'0123456789abcdef0123456789abcdef','shop','"mon"',1,1,0,'submitted',X'789C8B8E36D051CA28292928B6D2D74FD24BAD48CC2DC849D557D2C92BCDC90113B13AD1863A4A79F979C5A940049550528709A82B64162BE4E5972824E62980CC51C82F02D3C50AA1413E4AB1B100438E20F4',1,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',NULL,'job-2',X'789C8B562A31568A050005DC01A4','run-1',NULL,NULL,NULL,'2026-01-02 03:04:06.678901','2026-01-02 03:04:11.678901','2026-01-02 03:04:12.678901',NULL,NULL,NULL);
INSERT INTO "scrapedo_submissions" VALUES(3,'0123456789abcdef0123456789abcdef','shop','"mon"',1,2,0,'uncertain',X'789C8B8E36D051CA28292928B6D2D74FD64BAD48CC2DC849D557D2C92BCDC90113B1B100DAAF0C56',1,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','90280ef2a0144f3eb65cae24c8dbfde1',NULL,NULL,'run-2','the answer was lost',NULL,NULL,'2026-01-02 03:04:06.678901','2026-01-02 03:04:13.678901',NULL,NULL,NULL,NULL);
INSERT INTO "scrapedo_submissions" VALUES(4,'0123456789abcdef0123456789abcdef','shop','"mon"',1,3,1,'planned',X'789C8B8E36D451CA28292928B6D2D74FD44BAD48CC2DC849D58F293530484B56D2512ACE2E55D2C92BCDC9898D050032B50E2B',1,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',NULL,NULL,NULL,'run-1',NULL,NULL,NULL,'2026-01-02 03:04:10.678901',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "scrapedo_submissions" VALUES(5,'0123456789abcdef0123456789abcdef','shop','null',7,0,0,'planned',X'789C8B8E0500011500B9',0,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-01-02 03:04:14.678901',NULL,NULL,NULL,NULL,NULL);
CREATE INDEX scrapedo_by_state ON scrapedo_submissions (account, state);
COMMIT;
