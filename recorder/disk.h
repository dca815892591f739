/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SP_RECORDER_DISK_H
#define SP_RECORDER_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

/*
 * The room of one file that is appended to: preallocated in steps, with some
 * kept back for the end, and never into the reserve of the file system. Behind its
 * end, at a distance of SP_REC_GAP, a tail may stand: what was said last, until
 * it is packed (doc/recording-format.md, "While it is written").
 */
struct sp_rec_disk {
	int fd;
	uint64_t off;		/* the end of the body */
	uint64_t tail;		/* bytes of the tail */
	uint64_t allocated;	/* end of what the file system has promised */
	uint64_t reserve_bytes;
	int64_t checked_us;	/* when the free space was last looked at */
	bool no_fallocate;	/* the file system does not know it */
	bool is_dirty;		/* written since the last sync */
	bool is_short;		/* when it was last looked at, at looked_us */
	int64_t looked_us;
};
#define SP_REC_END_BYTES (16u << 10)

void sp_rec_disk_init(struct sp_rec_disk *d, int fd, uint64_t reserve_bytes);
/* Is the file system so near to the reserve that the next batch might not find
 * room? Looks at most ten times a second. */
bool sp_rec_disk_is_short(struct sp_rec_disk *d);
/* Room for n bytes more beside the tail: SP_ERR_FULL, SP_ERR_IO. */
SP_MUST enum sp_err sp_rec_disk_room(struct sp_rec_disk *d, size_t n);
/* Writes all of s at off and moves off; on failure off stays. */
SP_MUST enum sp_err sp_rec_disk_append(struct sp_rec_disk *d, struct sp_span s);
/* The same, for what takes a tail's place: as if it were written in one, also where
 * power fails. The header of its first chunk comes last. */
SP_MUST enum sp_err sp_rec_disk_append_packed(struct sp_rec_disk *d,
    struct sp_span s);
/* At the end of the tail. */
SP_MUST enum sp_err sp_rec_disk_append_tail(struct sp_rec_disk *d,
    struct sp_span s);
/* What was appended takes the tail's place: on the disk, before the tail goes. */
SP_MUST enum sp_err sp_rec_disk_drop_tail(struct sp_rec_disk *d);
SP_MUST enum sp_err sp_rec_disk_sync(struct sp_rec_disk *d);
/* Cuts the file at off and gives what was preallocated back. */
SP_MUST enum sp_err sp_rec_disk_finish(struct sp_rec_disk *d);

#endif
