-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO targets (id, ver, seal, name, addr, port, host_keys, tags, enabled,
    protocol, sql) VALUES (t.id('pg'), 1, t.seal(), 'pg', '192.0.2.1', 5432, 'k', '',
    true, 'postgresql', 'database=bank');
SELECT t.refused('23514', $q$INSERT INTO targets (id, ver, seal, name, addr, port,
    host_keys, tags, enabled, protocol) VALUES (t.id('px'), 1, t.seal(), 'px',
    '192.0.2.1', 5432, 'k', '', true, 'oracle')$q$);
UPDATE targets SET sql = NULL, ver = 2 WHERE id = t.id('pg');
SELECT t.refused('42501', 'UPDATE targets SET protocol = NULL WHERE id = t.id($$pg$$)');
INSERT INTO accounts (id, ver, seal, target_id, name, kind, sql) VALUES (t.id('role'),
    1, t.seal(), t.id('pg'), 'reports', 6, 'admin=maker member=reporting');
UPDATE accounts SET sql = 'admin=maker member=other', ver = 2 WHERE id = t.id('role');

SELECT t.refused('23514', $q$INSERT INTO session_roles (session_id, account_id,
    database, ends_us, due_us) VALUES (t.id('s'), t.id('role'), '', 2, 1)$q$);
SELECT t.refused('42501', 'DELETE FROM session_roles');
SELECT t.refused('42501', 'UPDATE session_roles SET session_id = t.id($$x$$)');
