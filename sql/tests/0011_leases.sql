-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO sessions (id, person_id, person_name, account_name, target_name, node, peer_addr,
    rule, policy_hash, started_us, state) SELECT t.id(s), t.id('alice'), 'alice', 'root',
    'core-01', 'n', '192.0.2.9', 'r', 'h', 1, 'running' FROM unnest(ARRAY['s', 's2']) s;
INSERT INTO leases (id, session_id, kind, account, target, serial, granted_us, account_id, person_id,
    exclusive, expires_us, until_us)
    VALUES (t.id('l'), t.id('s'), 1, 'root', 'core-01', 1, 2, t.id('root'), t.id('alice'), true, 5, 9);
-- One holder; others only where the account does not ask for it.
SELECT t.refused('23505', 'INSERT INTO leases (session_id, kind, account, target, serial, granted_us, account_id, person_id,
    exclusive) VALUES (t.id($$s2$$), 1, $$root$$, $$core-01$$, 2, 2, t.id($$root$$), t.id($$bob$$), true)');
SELECT t.refused('23514', 'INSERT INTO leases (session_id, kind, account, target, serial, granted_us,
    exclusive) VALUES (t.id($$s2$$), 1, $$root$$, $$core-01$$, 2, 2, true)');
SELECT t.refused('23514', 'UPDATE leases SET ended_us = 5');
SELECT t.refused('23514', 'UPDATE leases SET state = $$expired$$');
SELECT t.refused('SPD27', 'UPDATE leases SET expires_us = 10');
UPDATE leases SET expires_us = 7;
SELECT t.refused('42501', 'UPDATE leases SET until_us = 100');
SELECT t.refused('42501', 'UPDATE leases SET person_id = t.id($$bob$$)');
UPDATE leases SET state = 'expired', ended_us = 8;
SELECT t.refused('SPD26', 'UPDATE leases SET state = $$active$$, ended_us = NULL');
SELECT t.refused('SPD26', 'UPDATE leases SET expires_us = 9');
INSERT INTO leases (session_id, kind, account, target, serial, granted_us, account_id, person_id,
    exclusive) VALUES (t.id('s2'), 1, 'root', 'core-01', 2, 2, t.id('root'), t.id('bob'), true);
RESET ROLE;
SET ROLE sallyport_owner;
SELECT t.refused('SPD02', 'UPDATE sallyport.leases SET person_id = t.id($$alice$$)');
