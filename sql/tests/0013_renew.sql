-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
CREATE FUNCTION t.new() RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT decode(repeat('cd', 32), 'hex') $$;
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO policies VALUES (t.id('p'), 1, t.seal(), 1, 'deny all', 'h', 'root@host', 1);
SELECT t.request('r', 'alice', 1, 600, 60000000);
SELECT t.decide('r', 'alice', 'bob', 'approve');
INSERT INTO memberships VALUES (t.id('m'), 1, t.seal(), t.id('alice'), 'ops');
INSERT INTO revoked VALUES (t.id('v'), 1, t.seal(), 'serial', '7', '', 'carol', 1, 2);
-- The seal of every sealed table, as the next version.
UPDATE policies SET ver = 2, seal = t.new();
UPDATE decisions SET ver = 2, seal = t.new();
UPDATE memberships SET ver = 2, seal = t.new();
UPDATE revoked SET ver = 2, seal = t.new();
UPDATE requests SET ver = 2, seal = t.new();
SELECT t.is((SELECT count(*) FROM policies WHERE body = 'deny all' AND ver = 2 AND seal = t.new()), 1::bigint, 'policies');
-- Never an older version, and nothing besides.
SELECT t.refused('SPD01', 'UPDATE policies SET ver = 1, seal = t.seal()');
SELECT t.refused('SPD01', 'UPDATE policies SET ver = 2, seal = t.seal()');
SELECT t.refused('42501', 'UPDATE policies SET ver = 3, seal = t.seal(), body = $$allow all$$');
SELECT t.refused('42501', 'UPDATE decisions SET verdict = $$deny$$');
SELECT t.refused('42501', 'UPDATE memberships SET group_name = $$admins$$');
SELECT t.refused('23514', 'UPDATE policies SET ver = 3, seal = $$x$$');
RESET ROLE;
SET ROLE sallyport_owner;
SELECT t.refused('SPD01', 'UPDATE sallyport.policies SET body = $$allow all$$');
SELECT t.refused('SPD01', 'UPDATE sallyport.policies SET body = $$allow all$$, ver = 3, seal = t.seal()');
SELECT t.refused('SPD01', 'UPDATE sallyport.revoked SET value = $$8$$, ver = 3, seal = t.seal()');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.policies');
SELECT t.refused('SPD01', 'TRUNCATE sallyport.policies');
RESET ROLE;
