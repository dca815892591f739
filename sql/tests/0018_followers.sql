-- SPDX-License-Identifier: Apache-2.0
-- Who is woken, and when, is tests/unit/test_store_audit.c's; here: no
-- search_path gets between, and what was taken ends with the transaction.
CREATE FUNCTION t.held() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
	    AND (classid::bigint << 32) + objid::bigint = 7235419822563 $$;
GRANT EXECUTE ON FUNCTION t.held() TO PUBLIC;
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.pg_try_advisory_xact_lock(bigint) RETURNS boolean
    LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO PUBLIC;
SET ROLE sallyport_broker;
SELECT t.is(t.held(), 0::bigint, 'nothing is held yet');
SET search_path = evil, pg_catalog;
INSERT INTO sallyport.audit VALUES ('n', 1, 1, 'e', 'a', NULL, NULL, decode(repeat('00', 32), 'hex'),
    decode(repeat('11', 32), 'hex'));
RESET search_path;
SELECT t.is(t.held(), 1::bigint, 'an event without followers holds it');
SELECT pg_catalog.pg_advisory_lock_shared(7235419822563);
SELECT t.is(pg_catalog.pg_advisory_unlock_shared(7235419822563), true, 'the broker may follow');
RESET ROLE;
