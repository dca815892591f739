/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "bastion/cli/cli.h"
#include "common/stream.h"

#define CHAN 1

struct relay {
	struct sp_stream s;
	struct sp_buf *capture;
	int in, sig;
	uint64_t credit;	/* what we may still send */
	bool over, has_status;
	uint32_t status;
};

static struct termios saved;
static bool is_raw;

static void
make_raw(int fd)
{
	struct termios t;

	if (tcgetattr(fd, &saved) != 0)
		return;
	t = saved;
	cfmakeraw(&t);
	is_raw = tcsetattr(fd, TCSANOW, &t) == 0;
}

static void
make_cooked(int fd)
{
	if (is_raw)
		(void)!tcsetattr(fd, TCSANOW, &saved);
	is_raw = false;
}

static bool
write_all(int fd, struct sp_span s)
{
	while (s.n > 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			struct pollfd pf = {.fd = fd, .events = POLLOUT};

			if (errno == EAGAIN)
				(void)poll(&pf, 1, -1);
			continue;
		}
		if (n < 0)
			return false;
		s.p += n;
		s.n -= (size_t)n;
	}
	return true;
}

static enum sp_err
take_data(struct relay *r, const struct sp_frame *f)
{
	if (f->lane == 1 && r->capture != NULL)
		SP_TRY(sp_buf_put(r->capture, f->payload.p, f->payload.n));
	else if (!write_all(f->lane == 2 ? STDERR_FILENO : STDOUT_FILENO,
	    f->payload))
		return SP_ERR_IO;
	return sp_stream_put_u32(&r->s, SP_FRAME_CREDIT, CHAN,
	    (uint32_t)f->payload.n);
}

/* Texts of the bastion; they are encoded where they are made, and again here. */
static void
say_text(struct sp_span s, bool has_code)
{
	struct sp_span t = {0};
	uint8_t code;
	char safe[2048];

	if ((has_code && sp_get_u8(&s, &code) != SP_OK) ||
	    sp_get_str(&s, 1024, &t) != SP_OK || t.n == 0)
		return;
	fprintf(stderr, "%s%s\n", is_raw ? "\r\n" : "",
	    sp_vis(safe, sizeof(safe), t));
}

static enum sp_err
take(struct relay *r, const struct sp_frame *f)
{
	struct sp_span s = f->payload;
	uint32_t v = 0;

	switch (f->type) {
	case SP_FRAME_DATA:
		return take_data(r, f);
	case SP_FRAME_CREDIT:
		SP_TRY(sp_get_u32(&s, &v));
		r->credit += v;
		return SP_OK;
	case SP_FRAME_EXIT_STATUS:
		r->has_status = true;
		return sp_get_u32(&s, &r->status);
	case SP_FRAME_OPEN_FAIL:
	case SP_FRAME_NOTICE:
		say_text(s, false);
		r->over = f->type == SP_FRAME_OPEN_FAIL;
		return SP_OK;
	case SP_FRAME_END:
		say_text(s, true);
		r->over = true;
		return SP_OK;
	case SP_FRAME_CLOSE:
		r->over = true;
		return SP_OK;
	default:
		return SP_OK;
	}
}

static enum sp_err
read_input(struct relay *r)
{
	uint8_t b[8192];
	size_t want = r->credit < sizeof(b) ? (size_t)r->credit : sizeof(b);
	ssize_t n = read(r->in, b, want);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return SP_OK;
	if (n <= 0) {
		r->in = -1;
		return sp_stream_put(&r->s, SP_FRAME_EOF, 0, CHAN,
		    (struct sp_span){0});
	}
	r->credit -= (uint64_t)n;
	return sp_stream_put(&r->s, SP_FRAME_DATA, 0, CHAN,
	    sp_span_of(b, (size_t)n));
}

static enum sp_err
tell_window(struct relay *r)
{
	SP_BUF_AUTO b = {.max = 16};
	struct signalfd_siginfo si;
	struct winsize ws = {0};

	if (read(r->sig, &si, sizeof(si)) < 0 ||
	    ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) != 0)
		return SP_OK;
	SP_TRY(sp_buf_put_u32(&b, ws.ws_col));
	SP_TRY(sp_buf_put_u32(&b, ws.ws_row));
	SP_TRY(sp_buf_put_u32(&b, ws.ws_xpixel));
	SP_TRY(sp_buf_put_u32(&b, ws.ws_ypixel));
	return sp_stream_put(&r->s, SP_FRAME_WINDOW, 0, CHAN, sp_buf_span(&b));
}

static enum sp_err
turn(struct relay *r)
{
	struct pollfd pf[3] = {
	    {.fd = r->s.fd, .events = POLLIN}, {.fd = r->sig, .events = POLLIN},
	    {.fd = r->credit > 0 ? r->in : -1, .events = POLLIN}};
	struct sp_frame f;
	enum sp_err e;

	if (sp_stream_pending(&r->s) > 0)
		pf[0].events |= POLLOUT;
	if (poll(pf, 3, -1) < 0)
		return errno == EINTR ? SP_OK : SP_ERR_IO;
	if (pf[1].revents != 0)
		SP_TRY(tell_window(r));
	if (pf[2].revents != 0)
		SP_TRY(read_input(r));
	e = pf[0].revents != 0 ? sp_stream_fill(&r->s) : SP_ERR_AGAIN;
	while (!r->over) {
		enum sp_err n = sp_stream_next(&r->s, &f);

		if (n == SP_ERR_AGAIN)
			break;
		SP_TRY(n);
		SP_TRY(take(r, &f));
	}
	if (r->over)
		return SP_OK;
	if (e == SP_ERR_EOF || e == SP_ERR_IO)
		return SP_ERR_EOF;
	e = sp_stream_flush(&r->s);
	return e == SP_ERR_AGAIN || e == SP_ERR_EOF ? SP_OK : e;
}

static enum sp_err
open_chan(struct relay *r, const struct sp_open *open)
{
	SP_BUF_AUTO b = {.max = 8192};

	SP_TRY(sp_open_encode(&b, open));
	SP_TRY(sp_stream_put(&r->s, SP_FRAME_OPEN, 0, CHAN, sp_buf_span(&b)));
	if (r->in < 0)
		return sp_stream_put(&r->s, SP_FRAME_EOF, 0, CHAN,
		    (struct sp_span){0});
	return SP_OK;
}

int
sp_cli_relay(int fd, const struct sp_open *open, int in, struct sp_buf *capture,
    bool raw)
{
	struct relay r = {.capture = capture, .in = in, .sig = -1,
	    .credit = SP_STREAM_WINDOW};
	sigset_t winch;
	enum sp_err e;

	sigemptyset(&winch);
	sigaddset(&winch, SIGWINCH);
	if (open->has_pty && sigprocmask(SIG_BLOCK, &winch, NULL) == 0)
		r.sig = signalfd(-1, &winch, SFD_CLOEXEC | SFD_NONBLOCK);
	if (raw)
		make_raw(in);
	e = sp_stream_init(&r.s, fd, false);
	if (e == SP_OK)
		e = open_chan(&r, open);
	if (e == SP_OK && (e = sp_stream_flush(&r.s)) == SP_ERR_AGAIN)
		e = SP_OK;
	while (e == SP_OK && !r.over)
		e = turn(&r);
	make_cooked(in);
	if (r.sig >= 0)
		close(r.sig);
	sp_stream_fini(&r.s);
	if (r.has_status)
		return (int)(r.status & 0xff);
	if (e == SP_ERR_PROTO || e == SP_ERR_IO)
		return sp_cli_fail(SP_EXIT_REFUSED, "%s", sp_err_text(e));
	return sp_cli_fail(SP_EXIT_LATER, "the bastion went away in the middle");
}
