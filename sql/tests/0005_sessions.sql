-- SPDX-License-Identifier: Apache-2.0
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO sessions (id, person_id, person_name, account_name, target_name, node, peer_addr,
    rule, policy_hash, started_us, state) VALUES (t.id('s'), t.id('alice'), 'alice', 'root',
    'core-01', 'n', '192.0.2.9', 'r', 'h', 1, 'running');
INSERT INTO leases (session_id, kind, account, target, serial, granted_us)
    VALUES (t.id('s'), 1, 'root', 'core-01', nextval('cert_serials'), 2);
SELECT t.refused('23503', 'INSERT INTO leases VALUES (t.id($$none$$), 1, $$a$$, $$t$$, 1, 1)');
SELECT t.refused('42501', 'UPDATE sessions SET person_name = $$bob$$');
SELECT t.refused('42501', 'UPDATE sessions SET started_us = 5');
SELECT t.refused('42501', 'UPDATE leases SET account = $$x$$');
UPDATE leases SET used_us = 3, ended_us = 4, state = 'ended';
UPDATE sessions SET bytes_in = 10, chunks = 2;
SELECT t.refused('23514', 'UPDATE sessions SET head = $$\x01$$');
UPDATE sessions SET ended_us = 9, state = 'closed', end_code = 0, head = decode(repeat('11', 32), 'hex');
-- It does not run again, and does not end another way.
SELECT t.refused('SPD20', 'UPDATE sessions SET state = $$running$$');
SELECT t.refused('SPD20', 'UPDATE sessions SET ended_us = NULL');
SELECT t.refused('SPD20', 'UPDATE sessions SET head = decode(repeat($$22$$, 32), $$hex$$)');
SELECT t.refused('42501', 'DELETE FROM sessions');
SELECT t.refused('42501', 'DELETE FROM leases');
RESET ROLE;
SET ROLE sallyport_owner;
SELECT t.refused('SPD02', 'UPDATE sallyport.sessions SET person_name = $$bob$$');
SELECT t.refused('SPD02', 'UPDATE sallyport.leases SET serial = 7');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.leases');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.sessions');
SELECT t.refused('SPD01', 'TRUNCATE sallyport.sessions CASCADE');
