-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
-- It is inlined, and a comparison with the column of an index uses the index.
CREATE FUNCTION t.plan(stmt text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS off) ' || stmt LOOP
		plan := plan || line || E'\n';
	END LOOP;
	RETURN plan;
END $$;
SELECT t.is(t.plan('SELECT sallyport.now_us()') LIKE '%clock_timestamp()%', true, 'inlined');
SET enable_seqscan = off;
SELECT t.is(t.plan('SELECT id FROM sallyport.leases WHERE state = ''active'' AND expires_us < (SELECT sallyport.now_us()) - 1
    ORDER BY expires_us') ~ 'leases_due.*Index Cond: \(leases.expires_us <', true, 'by the index');
-- It is the time at which it is read, and not that of the statement.
SELECT t.is(count(DISTINCT sallyport.now_us()) > 1, true, 'the clock') FROM generate_series(1, 100000);

-- Every column that a trigger keeps is in its WHEN: each is tried.
INSERT INTO sallyport.sessions (id, person_id, person_name, account_name, target_name, node, peer_addr,
    rule, policy_hash, started_us, state) VALUES (t.id('s'), t.id('alice'), 'alice', 'root',
    'core-01', 'n', '192.0.2.9', 'r', 'h', 1, 'running');
INSERT INTO sallyport.leases (id, session_id, kind, account, target, serial, granted_us, account_id, person_id,
    exclusive, expires_us, until_us)
    VALUES (t.id('l'), t.id('s'), 1, 'root', 'core-01', 1, 2, t.id('root'), t.id('alice'), true, 5, 9);
CREATE FUNCTION t.each_is_kept(of regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint := 0;
	r record;
BEGIN
	FOR r IN SELECT c, format_type(atttypid, NULL) AS type FROM pg_trigger,
	    unnest(string_to_array(encode(tgargs, 'escape'), '\000')) c
	    JOIN pg_attribute ON attname = c AND attrelid = of
	    WHERE tgrelid = of AND tgname = 'keep' LOOP
		PERFORM t.refused('SPD02', format('UPDATE %s SET %I = %s', of, r.c, CASE r.type
		    WHEN 'uuid' THEN 'gen_random_uuid()' WHEN 'text' THEN format('coalesce(%I, '''') || ''x''', r.c)
		    WHEN 'boolean' THEN format('NOT %I', r.c) ELSE format('coalesce(%I, 0) + 1', r.c) END));
		n := n + 1;
	END LOOP;
	RETURN n;
END $$;
SELECT t.is(t.each_is_kept('sallyport.sessions'), 11::bigint, 'columns of sessions');
SELECT t.is(t.each_is_kept('sallyport.leases'), 15::bigint, 'columns of leases');

-- No search_path and no temporary table gets between.
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.yes(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.<> (FUNCTION = evil.yes, LEFTARG = bytea, RIGHTARG = bytea);
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2000-01-01' $$;
CREATE FUNCTION evil.repeat(text, int) RETURNS text LANGUAGE sql AS $$ SELECT '41' $$;
CREATE FUNCTION evil.decode(text, text) RETURNS bytea LANGUAGE sql AS $$ SELECT '\x41'::bytea $$;
CREATE FUNCTION evil.concat(bigint, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
CREATE FUNCTION evil.times(numeric, int) RETURNS numeric LANGUAGE sql AS 'SELECT 0::numeric';
CREATE OPERATOR evil.* (FUNCTION = evil.times, LEFTARG = numeric, RIGHTARG = int);
CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO PUBLIC;
CREATE TEMP TABLE audit (node text, seq bigint, hash bytea);
INSERT INTO audit VALUES ('n', 1, decode(repeat('22', 32), 'hex'));
GRANT SELECT ON audit TO PUBLIC;
SET ROLE sallyport_broker;
SET search_path = pg_temp, evil, pg_catalog;
SELECT t.is(sallyport.now_us() OPERATOR(pg_catalog.>) 1700000000000000, true, 'the time');
SELECT t.refused('SPA01', $q$INSERT INTO sallyport.audit VALUES ('n', 1, 1, 'e', 'a', NULL, NULL,
    pg_catalog.decode(pg_catalog.repeat('41', 32), 'hex'), pg_catalog.decode(pg_catalog.repeat('11', 32), 'hex'))$q$);
INSERT INTO sallyport.audit SELECT n, 1, 1, 'e', 'a', NULL, NULL, pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex'),
    pg_catalog.decode(pg_catalog.repeat(h, 32), 'hex') FROM (VALUES ('m', '44'), ('n', '11')) AS v (n, h);
SELECT t.refused('SPA01', $q$INSERT INTO sallyport.audit VALUES ('n', 2, 1, 'e', 'a', NULL, NULL,
    pg_catalog.decode(pg_catalog.repeat('22', 32), 'hex'), pg_catalog.decode(pg_catalog.repeat('33', 32), 'hex'))$q$);
INSERT INTO sallyport.audit VALUES ('n', 2, 1, 'e', 'a', NULL, NULL, pg_catalog.decode(pg_catalog.repeat('11', 32), 'hex'),
    pg_catalog.decode(pg_catalog.repeat('33', 32), 'hex'));
RESET ROLE;
