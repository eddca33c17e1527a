BEGIN TRANSACTION;
CREATE TABLE adapter (
	id INTEGER NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_adapter PRIMARY KEY (id), 
	CONSTRAINT uq_adapter_name UNIQUE (name)
);
INSERT INTO "adapter" VALUES(1,'sql','2026-11-22 10:13:42.714710');
INSERT INTO "adapter" VALUES(2,'orders','2026-11-22 10:13:42.761309');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE alias (
	id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	version_id INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_alias PRIMARY KEY (id), 
	CONSTRAINT fk_alias_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapter (id), 
	CONSTRAINT fk_alias_version_id FOREIGN KEY(version_id) REFERENCES version (id), 
	CONSTRAINT uq_alias_adapter_id_name UNIQUE (adapter_id, name)
);
INSERT INTO "alias" VALUES(1,1,'prod',1,'2026-11-22 10:13:42.778741');
INSERT INTO "alias" VALUES(2,1,'canary',2,'2026-11-22 10:13:42.782129');
CREATE TABLE alias_event (
	id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	alias VARCHAR(63) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	from_version_id INTEGER, 
	to_version_id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	"by" VARCHAR(255) NOT NULL, 
	why TEXT NOT NULL, 
	CONSTRAINT pk_alias_event PRIMARY KEY (id), 
	CONSTRAINT fk_alias_event_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapter (id), 
	CONSTRAINT fk_alias_event_from_version_id FOREIGN KEY(from_version_id) REFERENCES version (id), 
	CONSTRAINT fk_alias_event_to_version_id FOREIGN KEY(to_version_id) REFERENCES version (id)
);
INSERT INTO "alias_event" VALUES(1,1,'prod','set',NULL,1,'2026-11-22 10:13:42.768641','ann','first');
INSERT INTO "alias_event" VALUES(2,1,'prod','set',1,3,'2026-11-22 10:13:42.773094','bob','better');
INSERT INTO "alias_event" VALUES(3,1,'prod','rollback',3,1,'2026-11-22 10:13:42.778741','ann','worse');
INSERT INTO "alias_event" VALUES(4,1,'canary','set',NULL,2,'2026-11-22 10:13:42.782129','ann','');
CREATE TABLE api_key (
	id VARCHAR(16) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	verbs VARCHAR(255) NOT NULL, 
	patterns TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	expires_at DATETIME, 
	revoked_at DATETIME, 
	CONSTRAINT pk_api_key PRIMARY KEY (id)
);
INSERT INTO "api_key" VALUES('84d234d14bec0062','ci','e7c8e3963c0b5293ce50948f8a34a7ac3696d8de8a4798920147e13f17278af2','read push','sql*','2026-11-22 10:13:42.799409','ann',NULL,NULL);
CREATE TABLE audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at DATETIME NOT NULL, 
	"by" VARCHAR(255) NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	action VARCHAR(255) NOT NULL, 
	status INTEGER NOT NULL
);
INSERT INTO "audit" VALUES(1,'2026-11-22 10:13:42.803407','ann','127.0.0.1','PUT /adapters/sql/aliases/prod',200);
CREATE TABLE base (
	fingerprint VARCHAR(71) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_base PRIMARY KEY (fingerprint, name)
);
INSERT INTO "base" VALUES('sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','tiny-base');
CREATE TABLE event (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at DATETIME NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	adapter VARCHAR(63) NOT NULL, 
	"by" VARCHAR(255) NOT NULL, 
	data TEXT NOT NULL
);
INSERT INTO "event" VALUES(1,'2026-11-22 10:13:42.719127','version.pushed','sql','ann','{"version": 1, "digest": "sha256:d0d6f96d7a6b239ab2feb271c6b26fc26c3ac7e6056581c1fcbd7b3086cea822"}');
INSERT INTO "event" VALUES(2,'2026-11-22 10:13:42.733557','version.pushed','sql','ann','{"version": 2, "digest": "sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556"}');
INSERT INTO "event" VALUES(3,'2026-11-22 10:13:42.748888','version.pushed','sql','ann','{"version": 3, "digest": "sha256:ea8adf94affccc1f4d8fd8e67b0255e9a5c99ba558a9322fea0a2e87ff80fbb1"}');
INSERT INTO "event" VALUES(4,'2026-11-22 10:13:42.762963','version.pushed','orders','bob','{"version": 1, "digest": "sha256:c3f85d21f1655c3c47b4db660f623a9e9899171998b70229929b4a658ff52688"}');
INSERT INTO "event" VALUES(5,'2026-11-22 10:13:42.769605','alias.set','sql','ann','{"alias": "prod", "version": 1, "digest": "sha256:d0d6f96d7a6b239ab2feb271c6b26fc26c3ac7e6056581c1fcbd7b3086cea822", "previous": null, "why": "first"}');
INSERT INTO "event" VALUES(6,'2026-11-22 10:13:42.773932','alias.set','sql','bob','{"alias": "prod", "version": 3, "digest": "sha256:ea8adf94affccc1f4d8fd8e67b0255e9a5c99ba558a9322fea0a2e87ff80fbb1", "previous": 1, "why": "better"}');
INSERT INTO "event" VALUES(7,'2026-11-22 10:13:42.779190','alias.rollback','sql','ann','{"alias": "prod", "version": 1, "digest": "sha256:d0d6f96d7a6b239ab2feb271c6b26fc26c3ac7e6056581c1fcbd7b3086cea822", "previous": 3, "why": "worse"}');
INSERT INTO "event" VALUES(8,'2026-11-22 10:13:42.782387','alias.set','sql','ann','{"alias": "canary", "version": 2, "digest": "sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556", "previous": null, "why": ""}');
INSERT INTO "event" VALUES(9,'2026-11-22 10:13:42.785431','alias.protected','sql','ann','{"alias": "prod"}');
INSERT INTO "event" VALUES(10,'2026-11-22 10:13:42.788477','version.withdrawn','orders','bob','{"version": 1, "digest": "sha256:c3f85d21f1655c3c47b4db660f623a9e9899171998b70229929b4a658ff52688", "why": "bad data"}');
INSERT INTO "event" VALUES(11,'2026-11-22 10:13:42.797697','referrer.added','sql','ann','{"digest": "sha256:efeda446934169203331bebad92442b359ad96a84f8f91633f6a47282ae5d3e6", "subject": "sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556", "version": 2}');
CREATE TABLE lease (
	id INTEGER NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	holder VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	CONSTRAINT pk_lease PRIMARY KEY (id), 
	CONSTRAINT uq_lease_digest_holder UNIQUE (digest, holder)
);
INSERT INTO "lease" VALUES(1,'sha256:d0d6f96d7a6b239ab2feb271c6b26fc26c3ac7e6056581c1fcbd7b3086cea822','server-1','2026-11-22 10:13:42.808452','2096-11-04 10:13:42.808452');
CREATE TABLE metric (
	version_id INTEGER NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	value FLOAT NOT NULL, 
	CONSTRAINT pk_metric PRIMARY KEY (version_id, name), 
	CONSTRAINT fk_metric_version_id FOREIGN KEY(version_id) REFERENCES version (id)
);
INSERT INTO "metric" VALUES(2,'exact_match',0.93);
CREATE TABLE protected_alias (
	adapter_id INTEGER NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_protected_alias PRIMARY KEY (adapter_id, name), 
	CONSTRAINT fk_protected_alias_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapter (id)
);
INSERT INTO "protected_alias" VALUES(1,'prod');
CREATE TABLE referrer (
	id INTEGER NOT NULL, 
	subject VARCHAR(71) NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	artifact_type VARCHAR(255) NOT NULL, 
	manifest TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	"by" VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_referrer PRIMARY KEY (id), 
	CONSTRAINT uq_referrer_subject_digest UNIQUE (subject, digest)
);
INSERT INTO "referrer" VALUES(1,'sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556','sha256:efeda446934169203331bebad92442b359ad96a84f8f91633f6a47282ae5d3e6','application/vnd.hatstand.evaluation.v1+json','{"artifactType":"application/vnd.hatstand.evaluation.v1+json","config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","mediaType":"application/vnd.oci.empty.v1+json","size":2},"layers":[{"digest":"sha256:8256e1b68c014bfd8144edc9296aaad8c259258e2127a02a876159a15ae03df6","mediaType":"application/vnd.hatstand.evaluation.v1+json","size":32}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,"subject":{"digest":"sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556","mediaType":"application/vnd.oci.image.manifest.v1+json","size":774}}','2026-11-22 10:13:42.796446','ann');
CREATE TABLE tag (
	version_id INTEGER NOT NULL, 
	tag VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_tag PRIMARY KEY (version_id, tag), 
	CONSTRAINT fk_tag_version_id FOREIGN KEY(version_id) REFERENCES version (id)
);
INSERT INTO "tag" VALUES(1,'task=sql');
INSERT INTO "tag" VALUES(2,'task=sql');
INSERT INTO "tag" VALUES(3,'task=sql');
CREATE TABLE version (
	id INTEGER NOT NULL, 
	adapter_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	manifest TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	base_fingerprint VARCHAR(71) NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_version PRIMARY KEY (id), 
	CONSTRAINT fk_version_adapter_id FOREIGN KEY(adapter_id) REFERENCES adapter (id), 
	CONSTRAINT uq_version_adapter_id_number UNIQUE (adapter_id, number), 
	CONSTRAINT uq_version_adapter_id_digest UNIQUE (adapter_id, digest)
);
INSERT INTO "version" VALUES(1,1,1,'sha256:d0d6f96d7a6b239ab2feb271c6b26fc26c3ac7e6056581c1fcbd7b3086cea822','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:3d718681f18d71ce7cc8338d1bd3d0c57bb61a87a32fc4cc6d16138326d0ae90","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 10:13:42.716463','ann');
INSERT INTO "version" VALUES(2,1,2,'sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:8d264ab784cbefb5c66bd109ee4611e38affb22922b0067238be696ad475275f","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 10:13:42.732387','ann');
INSERT INTO "version" VALUES(3,1,3,'sha256:ea8adf94affccc1f4d8fd8e67b0255e9a5c99ba558a9322fea0a2e87ff80fbb1','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:37ee205cbb105c48f1cc6de028b943946360335b82e33dd447183027d96a173d","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 10:13:42.748023','ann');
INSERT INTO "version" VALUES(4,2,1,'sha256:c3f85d21f1655c3c47b4db660f623a9e9899171998b70229929b4a658ff52688','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:8cc4aa7f8cdfc6c0376f1f20aa49e59867296e38041e28139a475a36b1858167","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 10:13:42.762203','bob');
CREATE TABLE withdrawal (
	version_id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	"by" VARCHAR(255) NOT NULL, 
	why TEXT NOT NULL, 
	CONSTRAINT pk_withdrawal PRIMARY KEY (version_id), 
	CONSTRAINT fk_withdrawal_version_id FOREIGN KEY(version_id) REFERENCES version (id)
);
INSERT INTO "withdrawal" VALUES(4,'2026-11-22 10:13:42.788006','bob','bad data');
CREATE INDEX ix_version_digest ON version (digest);
CREATE INDEX ix_lease_expires_at ON lease (expires_at);
CREATE TRIGGER version_no_update BEFORE UPDATE ON version BEGIN SELECT RAISE(ABORT, 'a version is immutable'); END;
CREATE TRIGGER alias_event_no_update BEFORE UPDATE ON alias_event BEGIN SELECT RAISE(ABORT, 'alias history is append-only'); END;
CREATE TRIGGER alias_event_no_delete BEFORE DELETE ON alias_event BEGIN SELECT RAISE(ABORT, 'alias history is append-only'); END;
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_tag_tag ON tag (tag);
CREATE INDEX ix_metric_name_value ON metric (name, value);
CREATE INDEX ix_alias_event_adapter_id_alias ON alias_event (adapter_id, alias);
CREATE TRIGGER event_no_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',11);
INSERT INTO "sqlite_sequence" VALUES('audit',1);
COMMIT;
