/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect: caps in all and per source, and who is ended when too many
 * have not logged in. */
#include "bastion/supervisor/sup.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* One source: an IPv4 address, or an IPv6 /64 (whoever has one has all). */
struct sp_source {
	struct sp_source *next;
	uint8_t key[8];
	size_t n, n_startups, bucket;
};

static void
source_key(const union sp_address *a, uint8_t key[static 8])
{
	memset(key, 0, 8);
	if (a->sa.sa_family == AF_INET6) {
		memcpy(key, &a->in6.sin6_addr, 8);
		return;
	}
	key[0] = 0xff;	/* no global IPv6 address begins so */
	key[1] = 4;
	memcpy(key + 4, &a->in.sin_addr, 4);
}

static struct sp_source *
source_get(struct sp_sup *s, const uint8_t key[static 8])
{
	uint32_t h = s->source_seed;
	struct sp_source *x;

	for (size_t i = 0; i < 8; i++)
		h = (h ^ key[i]) * 16777619U;
	h = (h ^ (h >> 15)) % (sizeof(s->sources) / sizeof(s->sources[0]));
	for (x = s->sources[h]; x != NULL; x = x->next)
		if (memcmp(x->key, key, sizeof(x->key)) == 0)
			return x;
	if ((x = calloc(1, sizeof(*x))) == NULL)
		return NULL;
	memcpy(x->key, key, sizeof(x->key));
	x->bucket = h;
	x->next = s->sources[h];
	s->sources[h] = x;
	return x;
}

static void
source_put(struct sp_sup *s, struct sp_source *x)
{
	struct sp_source **at = &s->sources[x->bucket];

	if (x->n > 0)
		return;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	free(x);
}

void
sp_source_authed(struct sp_sup *s, struct sp_kid *k)
{
	if (!k->is_startup)
		return;
	k->is_startup = false;
	s->n_startups--;
	if (k->source != NULL)
		k->source->n_startups--;
}

void
sp_source_forget(struct sp_sup *s, struct sp_kid *k)
{
	sp_source_authed(s, k);
	if (k->is_counted)
		s->n_conns--;
	k->is_counted = false;
	if (k->source == NULL)
		return;
	k->source->n--;
	source_put(s, k->source);
	k->source = NULL;
}

static const char *
join(struct sp_sup *s, struct sp_kid *k, const union sp_address *a)
{
	struct sp_source *src;
	uint8_t key[8];

	source_key(a, key);
	if ((src = source_get(s, key)) == NULL)
		return "memory";
	if (src->n >= s->in.cfg.max_per_source) {
		source_put(s, src);
		return "max_per_source";
	}
	src->n++;
	src->n_startups += k->is_startup;
	k->source = src;
	return NULL;
}

/* ------------------------------------------------------------- start-ups */

#define YOUNG_US (SP_SECOND_US / 2)	/* so long nobody is ended: a flood costs
					 * max_startups processes in this time */
struct victim {
	int64_t before_us;	/* older: nobody is logging in any more */
	int64_t young_us;
	struct sp_kid *k;
	size_t n;		/* start-ups of its source */
};

/* Broker and ingress both end who is not in by login_grace_s, so what is left
 * counts as logged in. Of the others, one of the source that has most of them,
 * and of these the oldest; never one whose key is accepted. */
static void
look_at(struct sp_sup *s, struct sp_kid *k, void *arg)
{
	struct victim *v = arg;
	size_t n = k->source == NULL ? 1 : k->source->n_startups;

	if (k->is_startup && k->born_us < v->before_us)
		sp_source_authed(s, k);
	if (!k->is_startup || k->is_keyed || k->killed ||
	    k->born_us > v->young_us)
		return;
	if (v->k == NULL || n > v->n || (n == v->n && k->born_us < v->k->born_us)) {
		v->k = k;
		v->n = n;
	}
}

/* A flood from one address only ends its own; one from many ends who has kept
 * silent for longest. Either way somebody else can still log in. */
static bool
make_room(struct sp_sup *s, const struct sp_source *src)
{
	int64_t now = sp_boot_us();
	struct victim v = {.young_us = now - YOUNG_US, .before_us = now -
	    (int64_t)s->in.cfg.login_grace_s * SP_SECOND_US};

	sp_kid_each(s, look_at, &v);
	if (s->n_startups < s->in.cfg.max_startups)
		return true;
	if (v.k == NULL || (src != NULL && src->n_startups >= v.n))
		return false;
	sp_source_authed(s, v.k);
	sp_accept_refused(s, v.k->peer_addr, "max_startups");
	sp_kid_kill(s, v.k);
	return true;
}

const char *
sp_source_admit(struct sp_sup *s, struct sp_kid *k, const union sp_address *peer)
{
	const char *cap = NULL;

	k->born_us = sp_boot_us();
	/* A proxy is no source: its clients are, when its header has said so. */
	if (!k->is_proxied)
		cap = join(s, k, peer);
	if (cap == NULL && s->n_conns >= s->in.cfg.max_connections)
		cap = "max_connections";
	if (cap == NULL && s->n_startups >= s->in.cfg.max_startups &&
	    !make_room(s, k->source))
		cap = "max_startups";
	if (cap != NULL)
		return cap;
	s->n_conns++;
	s->n_startups++;
	k->is_counted = k->is_startup = true;
	if (k->source != NULL)
		k->source->n_startups++;
	return NULL;
}

enum sp_err
sp_source_named(struct sp_sup *s, struct sp_kid *k, struct sp_span addr)
{
	union sp_address a = {0};
	char text[64];
	const char *cap;

	if (!k->is_proxied || k->source != NULL)
		return SP_ERR_PROTO;
	SP_TRY(sp_span_cstr(addr, text, sizeof(text)));
	if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1)
		a.in.sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1)
		a.in6.sin6_family = AF_INET6;
	else
		return SP_ERR_PROTO;
	if ((cap = join(s, k, &a)) == NULL)
		return SP_OK;
	sp_accept_refused(s, text, cap);
	sp_kid_kill(s, k);
	return SP_OK;
}
