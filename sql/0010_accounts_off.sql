-- SPDX-License-Identifier: Apache-2.0
-- An account can be shut without being removed: what is named in evidence stays.
-- NULL: as before, open.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (10, 'accounts_off');

ALTER TABLE accounts ADD COLUMN disabled boolean;
GRANT UPDATE (disabled) ON accounts TO sallyport_broker;
COMMIT;
