-- From now on certificates are accepted for every principal again.
ALTER TABLE principals DROP COLUMN accepts_certificates;
