-- SPDX-License-Identifier: Apache-2.0
-- Ways to a target: further addresses, an account on another target that leads
-- to it, and whether old algorithms may be used with it. All NULL: as before.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (7, 'target_ways');

ALTER TABLE targets
	-- "[::1]:22 192.0.2.7:2222", in the order in which they are tried
	ADD COLUMN more_addrs text CHECK (length(more_addrs) BETWEEN 1 AND 600),
	ADD COLUMN via uuid REFERENCES accounts (id),
	ADD COLUMN legacy boolean;
CREATE INDEX ON targets (via);

GRANT UPDATE (more_addrs, via, legacy) ON targets TO sallyport_broker;
COMMIT;
