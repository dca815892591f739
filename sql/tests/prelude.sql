-- SPDX-License-Identifier: Apache-2.0
-- What the test files of this folder share; they run as the superuser and take
-- the roles on by SET ROLE. Every difference is an error, so psql's status is
-- the verdict.
\set ON_ERROR_STOP on
CREATE SCHEMA t;
GRANT USAGE ON SCHEMA t TO PUBLIC;
-- The statement must fail with that SQLSTATE.
CREATE FUNCTION t.refused(state text, stmt text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE stmt;
	EXCEPTION WHEN OTHERS THEN
		IF SQLSTATE <> state THEN
			RAISE EXCEPTION 'refused with % (%) instead of %: %',
			    SQLSTATE, SQLERRM, state, stmt;
		END IF;
		RETURN;
	END;
	RAISE EXCEPTION 'was not refused: %', stmt;
END $$;
CREATE FUNCTION t.is(got anyelement, want anyelement, what text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF got IS DISTINCT FROM want THEN
		RAISE EXCEPTION '%: % instead of %', what, got, want;
	END IF;
END $$;
-- Ids that can be read: t.id('a1').
CREATE FUNCTION t.id(s text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT lpad(encode(s::bytea, 'hex'), 32, '0')::uuid $$;
CREATE FUNCTION t.seal() RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT decode(repeat('ab', 32), 'hex') $$;
-- The inventory and people that later files stand on.
CREATE FUNCTION t.people() RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.people
	    SELECT t.id(n), 1, t.seal(), n, n, true
	    FROM unnest(ARRAY['alice', 'bob', 'carol', 'dave']) n;
	INSERT INTO sallyport.targets VALUES (t.id('core'), 1, t.seal(), 'core-01',
	    '192.0.2.1', 22, '', '', true);
	INSERT INTO sallyport.accounts VALUES (t.id('root'), 1, t.seal(),
	    t.id('core'), 'root', 1, NULL);
$$;
CREATE FUNCTION t.request(r text, who text, n int, seconds bigint,
    life_us bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.requests VALUES (t.id(r), 1, t.seal(),
	    nextval('sallyport.request_numbers'), t.id(who), t.id('root'),
	    t.id('core'), 'why', NULL, seconds, n, 'dba', 'rule', 'hash', 'pending',
	    sallyport.now_us() - 1000000, sallyport.now_us() + life_us)
$$;
CREATE FUNCTION t.decide(r text, who text, approver text, verdict text)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.decisions VALUES (t.id(r || approver), 1, t.seal(),
	    t.id(r), t.id(who), t.id(approver), verdict, '', sallyport.now_us())
$$;
CREATE FUNCTION t.move(r text, state text) RETURNS void LANGUAGE sql AS $$
	UPDATE sallyport.requests SET state = move.state, ver = ver + 1
	    WHERE id = t.id(r)
$$;
CREATE FUNCTION t.give(g text, r text, who text, seconds bigint)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.grants VALUES (t.id(g), 1, t.seal(), t.id(r),
	    t.id(who), t.id('root'), t.id('core'), 1000000,
	    1000000 + seconds * 1000000, 3, 'active', NULL)
$$;
