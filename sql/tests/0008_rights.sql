-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
CREATE FUNCTION t.rules(n int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT decode(repeat('00', n), 'hex') $$;
GRANT EXECUTE ON FUNCTION t.rules(int) TO PUBLIC;
SET ROLE sallyport_broker;
SET search_path = sallyport;

-- As it was: no rules on either.
SELECT t.request('old', 'alice', 1, 3600, 60000000);
SELECT t.decide('old', 'alice', 'bob', 'approve');
SELECT t.move('old', 'approved');
SELECT t.give('g-old', 'old', 'alice', 10);

INSERT INTO requests VALUES (t.id('r'), 1, t.seal(), 4711, t.id('alice'),
    t.id('root'), t.id('core'), 'why', NULL, 60, 1, 'dba', 'rule', 'hash',
    'pending', now_us() - 1, now_us() + 60000000, t.rules(34));
SELECT t.decide('r', 'alice', 'bob', 'approve');
SELECT t.move('r', 'approved');
-- What was asked for cannot be forgotten, nor changed later.
SELECT t.refused('SPD21', $q$SELECT t.give('g', 'r', 'alice', 10)$q$);
INSERT INTO grants VALUES (t.id('g'), 1, t.seal(), t.id('r'), t.id('alice'),
    t.id('root'), t.id('core'), 1, 2, 3, 'active', NULL, t.rules(4096));
SELECT t.refused('42501', 'UPDATE grants SET rules = t.rules(35)');
SELECT t.refused('42501', 'UPDATE requests SET rules = t.rules(35)');
RESET ROLE;
SELECT t.refused('SPD02', 'UPDATE sallyport.grants SET rules = t.rules(35)');
SELECT t.refused('SPD02', 'UPDATE sallyport.requests SET rules = NULL '
    'WHERE rules IS NOT NULL');
SET ROLE sallyport_broker;
SELECT t.refused('23514', $q$INSERT INTO grants VALUES (t.id('h'), 1, t.seal(),
    NULL, t.id('alice'), t.id('root'), t.id('core'), 1, 2, 3, 'active', NULL,
    t.rules(33))$q$);
SELECT t.refused('23514', $q$INSERT INTO grants VALUES (t.id('h'), 1, t.seal(),
    NULL, t.id('alice'), t.id('root'), t.id('core'), 1, 2, 3, 'active', NULL,
    t.rules(4097))$q$);
