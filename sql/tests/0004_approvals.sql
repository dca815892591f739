-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
SET ROLE sallyport_broker;
SET search_path = sallyport;
SELECT t.request('r1', 'alice', 1, 3600, 60000000);

-- Oneself, in every way of writing it.
SELECT t.refused('23514', $q$SELECT t.decide('r1', 'alice', 'alice', 'approve')$q$);
SELECT t.refused('23503', $q$SELECT t.decide('r1', 'bob', 'alice', 'approve')$q$);
SELECT t.refused('23514', $q$SELECT t.decide('r1', 'alice', 'bob', 'perhaps')$q$);
-- Not approved by anybody: neither the state nor a grant.
SELECT t.refused('SPD12', $q$SELECT t.move('r1', 'approved')$q$);
SELECT t.refused('SPD16', $q$SELECT t.give('g1', 'r1', 'alice', 10)$q$);
SELECT t.decide('r1', 'alice', 'bob', 'approve');
SELECT t.refused('23505', $q$SELECT t.decide('r1', 'alice', 'bob', 'approve')$q$);
SELECT t.refused('23505', $q$SELECT t.decide('r1', 'alice', 'bob', 'deny')$q$);
SELECT t.refused('SPD16', $q$SELECT t.give('g1', 'r1', 'alice', 10)$q$);
SELECT t.move('r1', 'approved');
SELECT t.refused('SPD13', $q$SELECT t.decide('r1', 'alice', 'carol', 'deny')$q$);
-- What was approved, for whom, for how long.
SELECT t.refused('SPD17', $q$SELECT t.give('g1', 'r1', 'bob', 10)$q$);
SELECT t.refused('SPD17', $q$SELECT t.give('g1', 'r1', 'alice', 3601)$q$);
SELECT t.refused('SPD15', $q$INSERT INTO grants VALUES (t.id('g1'), 1, t.seal(), t.id('r1'),
    t.id('alice'), t.id('root'), t.id('core'), 1, 2, 3, 'revoked', NULL)$q$);
SELECT t.give('g1', 'r1', 'alice', 3600);
SELECT t.refused('23505', $q$SELECT t.give('g2', 'r1', 'alice', 10)$q$);
SELECT t.refused('SPD18', 'UPDATE grants SET ends_us = ends_us + 1');
UPDATE grants SET ends_us = ends_us - 1;
SELECT t.refused('42501', 'UPDATE grants SET starts_us = 0');
SELECT t.refused('42501', 'UPDATE grants SET person_id = t.id($$bob$$)');
SELECT t.refused('42501', 'UPDATE grants SET rights = 255');
UPDATE grants SET state = 'revoked', ended_by = 'bob';
SELECT t.refused('SPD19', 'UPDATE grants SET state = $$active$$');
SELECT t.move('r1', 'revoked');

-- Every move of a request from every state; only the listed ones exist.
SELECT t.request(a || '>' || b, 'alice', 1, 60, 60000000),
    CASE WHEN a = 'approved' OR b = 'approved' THEN
    t.decide(a || '>' || b, 'alice', 'bob', 'approve') END,
    CASE WHEN a <> 'pending' THEN t.move(a || '>' || b, a) END,
    CASE WHEN a = b THEN NULL WHEN (a = 'pending') OR
    (a = 'approved' AND b IN ('revoked', 'expired')) THEN
    t.move(a || '>' || b, b) ELSE
    t.refused('SPD11', format('SELECT t.move(%L, %L)', a || '>' || b, b)) END
    FROM unnest(ARRAY['pending', 'approved', 'denied', 'revoked', 'expired']) a,
    unnest(ARRAY['pending', 'approved', 'denied', 'revoked', 'expired']) b;
SELECT t.refused('SPD10', $q$INSERT INTO requests VALUES (t.id('rx'), 1, t.seal(), 999999,
    t.id('alice'), t.id('root'), t.id('core'), 'why', NULL, 60, 1, 'dba', 'r', 'h',
    'approved', 1, now_us() + 1000000)$q$);
SELECT t.refused('23514', $q$INSERT INTO requests VALUES (t.id('rx'), 1, t.seal(), 999999,
    t.id('alice'), t.id('root'), t.id('core'), '  ', NULL, 60, 1, 'dba', 'r', 'h',
    'pending', 1, now_us() + 1000000)$q$);
SELECT t.refused('42501', 'UPDATE requests SET reason = $$other$$');
SELECT t.refused('42501', 'UPDATE requests SET seconds = 99999');
SELECT t.refused('42501', 'UPDATE requests SET expires_us = 9223372036854775807');
SELECT t.refused('42501', 'DELETE FROM requests');
SELECT t.refused('42501', 'UPDATE decisions SET verdict = $$approve$$');
SELECT t.refused('42501', 'DELETE FROM decisions');
SELECT t.refused('42501', 'DELETE FROM grants');

-- Too late.
SELECT t.request('late', 'alice', 1, 60, 0);
SELECT t.refused('SPD14', $q$SELECT t.decide('late', 'alice', 'bob', 'approve')$q$);
-- Two approvals are two people; a denial is none.
SELECT t.request('two', 'alice', 2, 60, 60000000);
SELECT t.decide('two', 'alice', 'bob', 'approve'), t.decide('two', 'alice', 'carol', 'deny');
SELECT t.refused('SPD12', $q$SELECT t.move('two', 'approved')$q$);
SELECT t.decide('two', 'alice', 'dave', 'approve');
SELECT t.move('two', 'approved');
SELECT t.give('g2', 'two', 'alice', 60);

RESET ROLE;
SET ROLE sallyport_owner;
SET search_path = sallyport;
SELECT t.refused('SPD02', 'UPDATE requests SET reason = $$other$$');
SELECT t.refused('SPD02', 'UPDATE grants SET person_id = t.id($$bob$$)');
SELECT t.refused('SPD01', 'UPDATE decisions SET comment = $$x$$');
SELECT t.refused('SPD01', 'DELETE FROM decisions');
SELECT t.refused('SPD01', 'DELETE FROM requests');
SELECT t.refused('SPD01', 'DELETE FROM grants');
SELECT t.refused('SPD01', 'TRUNCATE decisions');
SELECT t.refused('SPD01', 'TRUNCATE grants');
SELECT t.refused('SPD01', 'TRUNCATE requests, decisions, grants');
