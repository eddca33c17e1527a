BEGIN TRANSACTION;
CREATE TABLE adapter (
	id INTEGER NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_adapter PRIMARY KEY (id), 
	CONSTRAINT uq_adapter_name UNIQUE (name)
);
INSERT INTO "adapter" VALUES(1,'sql','2026-11-22 07:56:39.683380');
INSERT INTO "adapter" VALUES(2,'orders','2026-11-22 07:56:39.918344');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
INSERT INTO "alias" VALUES(1,2,'prod',4,'2026-11-22 07:56:39.923658');
INSERT INTO "alias" VALUES(2,1,'prod',1,'2026-11-22 07:56:40.001173');
INSERT INTO "alias" VALUES(3,1,'canary',2,'2026-11-22 07:56:40.015844');
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
INSERT INTO "alias_event" VALUES(1,2,'prod','set',NULL,4,'2026-11-22 07:56:39.923658','bob','first');
INSERT INTO "alias_event" VALUES(2,1,'prod','set',NULL,1,'2026-11-22 07:56:39.979183','ann','start');
INSERT INTO "alias_event" VALUES(3,1,'prod','set',1,3,'2026-11-22 07:56:39.988680','bob','better');
INSERT INTO "alias_event" VALUES(4,1,'prod','rollback',3,1,'2026-11-22 07:56:40.001173','ann','worse');
INSERT INTO "alias_event" VALUES(5,1,'canary','set',NULL,2,'2026-11-22 07:56:40.015844','ann','');
CREATE TABLE lease (
	id INTEGER NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	holder VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	CONSTRAINT pk_lease PRIMARY KEY (id), 
	CONSTRAINT uq_lease_digest_holder UNIQUE (digest, holder)
);
INSERT INTO "lease" VALUES(1,'sha256:ea8adf94affccc1f4d8fd8e67b0255e9a5c99ba558a9322fea0a2e87ff80fbb1','server-1','2026-11-22 07:56:40.018295','2036-11-19 07:56:40.018295');
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
INSERT INTO "version" VALUES(1,1,1,'sha256:d0d6f96d7a6b239ab2feb271c6b26fc26c3ac7e6056581c1fcbd7b3086cea822','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:3d718681f18d71ce7cc8338d1bd3d0c57bb61a87a32fc4cc6d16138326d0ae90","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 07:56:39.685997','ann');
INSERT INTO "version" VALUES(2,1,2,'sha256:9699e74b43c5a3df08587d438f4507b8b5f15480219bfc28b896c67c162d3556','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:8d264ab784cbefb5c66bd109ee4611e38affb22922b0067238be696ad475275f","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 07:56:39.780414','ann');
INSERT INTO "version" VALUES(3,1,3,'sha256:ea8adf94affccc1f4d8fd8e67b0255e9a5c99ba558a9322fea0a2e87ff80fbb1','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:37ee205cbb105c48f1cc6de028b943946360335b82e33dd447183027d96a173d","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 07:56:39.855142','ann');
INSERT INTO "version" VALUES(4,2,1,'sha256:c3f85d21f1655c3c47b4db660f623a9e9899171998b70229929b4a658ff52688','{"artifactType":"application/vnd.hatstand.adapter.v1+json","config":{"digest":"sha256:5f60a7da7f3d2d1bda4c5afeba8e372009b1e76152a2d852bd013afdd7f8cf53","mediaType":"application/vnd.hatstand.lock.v1+json","size":621},"layers":[{"annotations":{"org.opencontainers.image.title":"adapter_model.safetensors"},"digest":"sha256:8cc4aa7f8cdfc6c0376f1f20aa49e59867296e38041e28139a475a36b1858167","mediaType":"application/vnd.hatstand.adapter.weights.v1+safetensors","size":2877},{"annotations":{"org.opencontainers.image.title":"adapter_config.json"},"digest":"sha256:64411135ee1f9d2c0196539c193895a1506cc23c06d34ec750480ced31d811d4","mediaType":"application/vnd.hatstand.adapter.config.v1+json","size":86}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}',3584,'sha256:40a4d3327a72a16924233b61c7433b300d79c49862382929f6b38f2811612cf2','2026-11-22 07:56:39.919189','bob');
CREATE INDEX ix_version_digest ON version (digest);
CREATE INDEX ix_lease_expires_at ON lease (expires_at);
CREATE TRIGGER version_no_update BEFORE UPDATE ON version BEGIN SELECT RAISE(ABORT, 'a version is immutable'); END;
CREATE TRIGGER alias_event_no_update BEFORE UPDATE ON alias_event BEGIN SELECT RAISE(ABORT, 'alias history is append-only'); END;
CREATE TRIGGER alias_event_no_delete BEFORE DELETE ON alias_event BEGIN SELECT RAISE(ABORT, 'alias history is append-only'); END;
COMMIT;
