-- Whether client certificates that name the principal are accepted. So far they always were: principals without any API
-- key go on so, as nothing else can prove them.
ALTER TABLE principals ADD COLUMN accepts_certificates boolean NOT NULL DEFAULT false;
UPDATE principals SET accepts_certificates = true
WHERE NOT EXISTS (SELECT FROM api_keys WHERE api_keys.principal = principals.name);
