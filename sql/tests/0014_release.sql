-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
CREATE FUNCTION t.ask(r text, n int, purpose text, challenge bytea)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.requests (id, ver, seal, num, person_id, account_id, target_id,
	    reason, seconds, approvals, approver_group, rule, policy_hash, state,
	    created_us, expires_us, purpose, challenge)
	VALUES (t.id(r), 1, t.seal(), nextval('sallyport.request_numbers'), t.id('alice'),
	    t.id('root'), t.id('core'), 'why', 60, n, 'dba', 'rule', 'hash',
	    'pending', sallyport.now_us() - 1, sallyport.now_us() + 60000000, purpose, challenge)
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
SET ROLE sallyport_broker;
SET search_path = sallyport;

-- A credential is shown by two people's leave, once, and never by a grant.
SELECT t.refused('23514', $q$SELECT t.ask('r1', 1, 'reveal', NULL)$q$);
SELECT t.refused('23514', $q$SELECT t.ask('r1', 2, 'other', NULL)$q$);
SELECT t.ask('r2', 2, 'reveal', NULL);
SELECT t.refused('SPD24', 'UPDATE requests SET shown_us = 1 WHERE id = t.id(''r2'')');
SELECT t.decide('r2', 'alice', 'bob', 'approve');
SELECT t.decide('r2', 'alice', 'carol', 'approve');
SELECT t.move('r2', 'approved');
SELECT t.refused('SPD25', $q$SELECT t.give('g2', 'r2', 'alice', 10)$q$);
UPDATE requests SET shown_us = 1 WHERE id = t.id('r2');
SELECT t.refused('SPD23', 'UPDATE requests SET shown_us = 2 WHERE id = t.id(''r2'')');
SELECT t.refused('SPD23', 'UPDATE requests SET shown_us = NULL WHERE id = t.id(''r2'')');
SELECT t.refused('42501', 'UPDATE requests SET purpose = NULL');

-- What was signed for stays as it is, and needs signatures.
SELECT t.ask('r3', 1, NULL, '\x01');
SELECT t.refused('SPD24', 'UPDATE requests SET shown_us = 1 WHERE id = t.id(''r3'')');
SELECT t.refused('SPD26', $q$SELECT t.decide('r3', 'alice', 'bob', 'approve')$q$);
SELECT t.refused('42501', 'UPDATE requests SET challenge = NULL');
INSERT INTO decisions VALUES (t.id('d3'), 1, t.seal(), t.id('r3'), t.id('alice'),
    t.id('bob'), 'approve', '', now_us(), '\x02');
SELECT t.move('r3', 'approved');
RESET ROLE;
SELECT t.refused('SPD02', 'UPDATE sallyport.requests SET challenge = NULL '
    'WHERE id = t.id(''r3'')');
SELECT t.refused('SPD02', 'UPDATE sallyport.requests SET purpose = NULL '
    'WHERE id = t.id(''r2'')');

-- A kit that was opened stays opened, and another person reviews it.
CREATE FUNCTION t.kit(k int, n int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.break_glass_kits (id, ver, seal, k, n, note, made_by,
	    made_us, expires_us, receipt_key, entries)
	VALUES (t.id('kit'), 1, t.seal(), k, n, '', 'host', 1, 2, t.seal(), 'x')
$$;
GRANT EXECUTE ON FUNCTION t.kit(int, int) TO PUBLIC;
SET ROLE sallyport_broker;
SELECT t.refused('23514', 'SELECT t.kit(1, 5)');
SELECT t.refused('23514', 'SELECT t.kit(3, 2)');
SELECT t.kit(2, 3);
SELECT t.refused('SPD28', 'UPDATE break_glass_kits SET reviewed_us = 1, reviewed_by = ''c''');
UPDATE break_glass_kits SET opened_at = 'now', opened_by = 'a', opened_why = 'w',
    imported_by = 'b', imported_us = 1;
SELECT t.refused('SPD27', 'UPDATE break_glass_kits SET opened_by = ''z''');
SELECT t.refused('SPD27', 'UPDATE break_glass_kits SET opened_at = NULL');
SELECT t.refused('23514', 'UPDATE break_glass_kits SET reviewed_us = 1, reviewed_by = ''b''');
UPDATE break_glass_kits SET reviewed_us = 1, reviewed_by = 'c', review = 'fine';
SELECT t.refused('SPD27', 'UPDATE break_glass_kits SET reviewed_us = NULL');
SELECT t.refused('42501', 'DELETE FROM break_glass_kits');
SELECT t.refused('42501', 'UPDATE break_glass_kits SET entries = ''''');
