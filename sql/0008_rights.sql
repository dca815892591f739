-- SPDX-License-Identifier: Apache-2.0
-- What a request asked for, what a grant gives, what a session may do: the
-- encoded rules of common/rules.h, sealed with their rows. NULL in rows of
-- before: whatever the policy permits.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (8, 'rights');

ALTER TABLE requests ADD COLUMN rules bytea
    CHECK (length(rules) BETWEEN 34 AND 4096);
ALTER TABLE grants ADD COLUMN rules bytea
    CHECK (length(rules) BETWEEN 34 AND 4096);
-- As text: sessions are told of, not judged by.
ALTER TABLE sessions ADD COLUMN rules text;

DROP TRIGGER keep ON requests;
CREATE TRIGGER keep BEFORE UPDATE ON requests
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'num', 'person_id',
    'account_id', 'target_id', 'reason', 'ticket', 'seconds', 'approvals',
    'approver_group', 'rule', 'policy_hash', 'created_us', 'expires_us', 'rules');
DROP TRIGGER keep ON grants;
CREATE TRIGGER keep BEFORE UPDATE ON grants
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'request_id', 'person_id',
    'account_id', 'target_id', 'starts_us', 'rights', 'rules');

-- A grant that forgot what was asked for would be wider than its request.
CREATE FUNCTION grant_has_rules() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF NEW.rules IS NULL AND EXISTS (SELECT FROM requests
	    WHERE id = NEW.request_id AND rules IS NOT NULL) THEN
		RAISE EXCEPTION 'the grant lacks the rules of its request'
		    USING ERRCODE = 'SPD21';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER rules_are_there BEFORE INSERT ON grants
    FOR EACH ROW EXECUTE FUNCTION grant_has_rules();
COMMIT;
