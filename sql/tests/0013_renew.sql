-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
CREATE FUNCTION t.new() RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT decode(repeat('cd', 32), 'hex') $$;
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO policies VALUES (t.id('p'), 1, t.seal(), 1, 'deny all', 'h', 'root@host', 1);
INSERT INTO secrets VALUES (t.id('s'), 1, t.seal(), t.id('core'), 3, '\x0102');
INSERT INTO totp VALUES (t.id('o'), 1, t.seal(), t.id('alice'), '\x01');
SELECT t.request('r', 'alice', 1, 600, 60000000);
SELECT t.decide('r', 'alice', 'bob', 'approve');
INSERT INTO memberships VALUES (t.id('m'), 1, t.seal(), t.id('alice'), 'ops');
-- Of every table, evidence too, whatever the broker may update there.
SELECT t.is(renew_seal(tab, id, 1, t.seal(), t.new(), NULL), 1::bigint, tab) FROM (VALUES
    ('people', t.id('alice')), ('targets', t.id('core')), ('accounts', t.id('root')), ('policies', t.id('p')),
    ('requests', t.id('r')), ('decisions', t.id('rbob')), ('memberships', t.id('m'))) v (tab, id);
SELECT t.is((SELECT seal FROM policies WHERE id = t.id('p')), t.new(), 'policies');
SELECT t.is((SELECT count(*) FROM policies WHERE body = 'deny all' AND ver = 1), 1::bigint, 'body');
-- A secret with its seal, or its seal alone.
SELECT t.is(renew_seal('secrets', t.id('s'), 1, t.seal(), t.new(), '\x09'), 1::bigint, 'secrets');
SELECT t.is((SELECT sealed FROM secrets WHERE id = t.id('s')), '\x09'::bytea, 'sealed');
SELECT t.is(renew_seal('totp', t.id('o'), 1, t.seal(), t.new(), '\x08'), 1::bigint, 'totp');
-- Not what was changed meanwhile.
SELECT t.is(renew_seal('people', t.id('bob'), 2, t.seal(), t.new(), NULL), 0::bigint, 'another version');
SELECT t.is(renew_seal('people', t.id('bob'), 1, t.new(), t.new(), NULL), 0::bigint, 'another seal');
SELECT t.refused('SPD30', 'SELECT renew_seal($$audit$$, t.id($$x$$), 1, t.seal(), t.new(), NULL)');
SELECT t.refused('SPD30', 'SELECT renew_seal($$people; DROP TABLE x$$, t.id($$x$$), 1, t.seal(), t.new(), NULL)');
SELECT t.refused('SPD30', 'SELECT renew_seal($$pg_class$$, t.id($$x$$), 1, t.seal(), t.new(), NULL)');
SELECT t.refused('SPD30', 'SELECT renew_seal($$people$$, t.id($$bob$$), 1, t.seal(), t.new(), $$x$$)');
SELECT t.refused('23514', 'SELECT renew_seal($$people$$, t.id($$bob$$), 1, t.seal(), $$x$$, NULL)');
RESET ROLE;
-- Evidence is evidence for its owner still.
SET ROLE sallyport_owner;
SELECT t.refused('SPD01', 'UPDATE sallyport.policies SET body = $$allow all$$');
SELECT t.refused('SPD01', 'UPDATE sallyport.policies SET body = $$allow all$$, seal = t.seal()');
SELECT t.refused('SPD01', 'UPDATE sallyport.policies SET ver = 2, seal = t.seal()');
SELECT t.refused('SPD01', 'UPDATE sallyport.policies SET ver = ver');
SELECT t.refused('SPD01', 'UPDATE sallyport.audit SET event = event') WHERE EXISTS (SELECT FROM sallyport.audit);
SELECT t.refused('SPD01', 'DELETE FROM sallyport.policies');
SELECT t.refused('SPD01', 'TRUNCATE sallyport.policies');
RESET ROLE;
