-- SPDX-License-Identifier: Apache-2.0
-- The audit carries the versions of the sealed rows that its events are about:
-- [["people", id, version, seal in hex, whose], ...], the seal null for a row
-- that was deleted. It is part of the event's hash.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (16, 'row_heads');

ALTER TABLE audit ADD COLUMN rows text;
COMMIT;
