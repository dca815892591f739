/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_TESTS_P11_FAULTY_H
#define SP_TESTS_P11_FAULTY_H

/* From call number fail_at on (from 1; 0: never) so many calls fail with rv. */
struct p11_faults {
	unsigned calls, logins, fail_at, times;
	unsigned long rv;
};
struct p11_faults *p11_faults(void);	/* exported by the module */

#endif
