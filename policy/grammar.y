%{
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
%}
%code requires {
#include "policy/compile.h"
}
%code {
int sp_policy_yylex(SP_POLICY_YYSTYPE *v, SP_POLICY_YYLTYPE *l, void *scanner);
static void sp_policy_yyerror(const SP_POLICY_YYLTYPE *l, void *scanner,
    struct sp_policy_ctx *c, const char *msg);
#define MUST(x)                                                               \
	do {                                                                  \
		if (!(x))                                                     \
			YYABORT;                                              \
	} while (0)
#define PLACE(l) ((struct sp_pos){(unsigned)(l).first_line, (unsigned)(l).first_column})
}
%require "3.8"
%define api.pure full
%define api.prefix {sp_policy_yy}
%define parse.error custom
%define parse.lac full
%locations
%param {void *scanner}
%parse-param {struct sp_policy_ctx *c}
%union {
	struct sp_word word;
	struct sp_node *node;
}
%initial-action { @$ = (SP_POLICY_YYLTYPE){1, 1, 1, 1}; }

%token END 0 "the end of the text"
%token <word> WORD "a word" STRING "a text in quotes"
%token NETWORK "network" HOURS "hours" PERMIT "permit" FORBID "forbid"
%token WHO "who" USER "user" GROUP "group" ANYONE "anyone"
%token ON "on" TARGET "target" TAG "tag" ANY "any" AS "as"
%token WHEN "when" AND "and" OR "or" NOT "not"
%token SOURCE "source" TIME "time" IN "in" MFA "mfa" GE ">="
%token <word> LIMIT "limit" PATH "path" RECORD "record" ENV "env" TO "to" AT "at"
%token <word> HOLD "hold"
%token REQUIRE "require" APPROVAL "approval" OF "of" FOR "for" ALLOW "allow"
%left OR
%left AND
%precedence NOT
%type <word> name soft
%type <node> expr

%%
policy:
	%empty
	| policy network
	| policy hours
	| policy rule
	;
name:
	WORD
	| STRING
	| soft
	;
/* Words that came later: where a name may stand they are names, so that no
 * text of before means something else. */
soft:
	LIMIT
	| PATH
	| RECORD
	| ENV
	| TO
	| AT
	| HOLD
	;
network:
	NETWORK name { MUST(sp_pol_def_begin(c, false, &$2)); } cidrs
	;
cidrs:
	cidr
	| cidrs ',' cidr
	;
cidr:
	WORD { MUST(sp_pol_cidr(c, &$1)); }
	;
hours:
	HOURS name { MUST(sp_pol_def_begin(c, true, &$2)); } spans
	;
spans:
	span
	| spans ',' span
	;
span:
	WORD WORD { MUST(sp_pol_hours(c, &$1, &$2)); }
	;
rule:
	PERMIT STRING { MUST(sp_pol_rule_begin(c, false, &$2)); } clauses
	    { MUST(sp_pol_rule_end(c)); }
	| FORBID STRING { MUST(sp_pol_rule_begin(c, true, &$2)); } clauses
	    { MUST(sp_pol_rule_end(c)); }
	;
clauses:
	%empty
	| clauses clause
	;
clause:
	WHO { MUST(sp_pol_clause(c, SP_CLAUSE_WHO, PLACE(@1))); } who
	| ON { MUST(sp_pol_clause(c, SP_CLAUSE_ON, PLACE(@1))); } on
	| AS { MUST(sp_pol_clause(c, SP_CLAUSE_AS, PLACE(@1))); } as
	| WHEN { MUST(sp_pol_clause(c, SP_CLAUSE_WHEN, PLACE(@1))); } expr
	    { c->rule->when = $3; }
	| REQUIRE { MUST(sp_pol_clause(c, SP_CLAUSE_REQUIRE, PLACE(@1))); } duties
	| FOR { MUST(sp_pol_clause(c, SP_CLAUSE_FOR, PLACE(@1))); } WORD
	    { MUST(sp_pol_longest(c, &$3)); }
	| ALLOW { MUST(sp_pol_clause(c, SP_CLAUSE_ALLOW, PLACE(@1))); } rights
	| LIMIT { MUST(sp_pol_clause(c, SP_CLAUSE_LIMIT, PLACE(@1))); } limits
	| PATH { MUST(sp_pol_clause(c, SP_CLAUSE_PATH, PLACE(@1))); } verdict
	    operations patterns
	| RECORD { MUST(sp_pol_clause(c, SP_CLAUSE_RECORD, PLACE(@1))); } kept
	| ENV { MUST(sp_pol_clause(c, SP_CLAUSE_ENV, PLACE(@1))); } variables
	| HOLD { MUST(sp_pol_clause(c, SP_CLAUSE_HOLD, PLACE(@1))); } holds
	;
who:
	ANYONE { sp_pol_any(c); }
	| people
	;
people:
	person
	| people ',' person
	| people ',' name { MUST(sp_pol_item(c, c->kind, &$3)); }
	;
person:
	USER name { MUST(sp_pol_item(c, SP_ITEM_USER, &$2)); }
	| GROUP name { MUST(sp_pol_item(c, SP_ITEM_GROUP, &$2)); }
	;
on:
	ANY { sp_pol_any(c); }
	| things
	;
things:
	thing
	| things ',' thing
	| things ',' name { MUST(sp_pol_item(c, c->kind, &$3)); }
	;
thing:
	TARGET name { MUST(sp_pol_item(c, SP_ITEM_TARGET, &$2)); }
	| TAG name { MUST(sp_pol_item(c, SP_ITEM_TAG, &$2)); }
	;
as:
	ANY { sp_pol_any(c); }
	| accounts
	;
accounts:
	name { MUST(sp_pol_item(c, SP_ITEM_ACCOUNT, &$1)); }
	| accounts ',' name { MUST(sp_pol_item(c, SP_ITEM_ACCOUNT, &$3)); }
	;
expr:
	expr OR expr { MUST(($$ = sp_pol_node(c, SP_NODE_OR, $1, $3)) != NULL); }
	| expr AND expr { MUST(($$ = sp_pol_node(c, SP_NODE_AND, $1, $3)) != NULL); }
	| NOT { MUST(sp_pol_deeper(c)); } expr %prec NOT
	    { c->depth--; MUST(($$ = sp_pol_node(c, SP_NODE_NOT, $3, NULL)) != NULL); }
	| '(' { MUST(sp_pol_deeper(c)); } expr ')' { c->depth--; $$ = $3; }
	| SOURCE IN name { MUST(($$ = sp_pol_ref(c, SP_NODE_SOURCE, &$3)) != NULL); }
	| TIME IN name { MUST(($$ = sp_pol_ref(c, SP_NODE_TIME, &$3)) != NULL); }
	| MFA GE WORD { MUST(($$ = sp_pol_mfa_atom(c, &$3)) != NULL); }
	;
duties:
	duty
	| duties ',' duty
	;
duty:
	APPROVAL { MUST(sp_pol_clause(c, SP_CLAUSE_APPROVAL, PLACE(@1))); }
	    WORD OF name { MUST(sp_pol_approval(c, &$3, &$5)); }
	| MFA { MUST(sp_pol_clause(c, SP_CLAUSE_MFA, PLACE(@1))); }
	    WORD { MUST(sp_pol_mfa(c, &$3)); }
	;
rights:
	right
	| rights ',' right
	;
right:
	WORD { MUST(sp_pol_right(c, &$1)); }
	| WORD TO STRING { MUST(sp_pol_right_at(c, &$1, "to", &$3)); }
	| WORD AT STRING { MUST(sp_pol_right_at(c, &$1, "at", &$3)); }
	| STRING { MUST(sp_pol_right_more(c, &$1)); }
	;
limits:
	limit
	| limits ',' limit
	;
limit:
	WORD WORD { MUST(sp_pol_limit(c, &$1, &$2)); }
	;
verdict:
	ALLOW { c->path_forbids = false; }
	| FORBID { c->path_forbids = true; }
	;
operations:
	operation
	| operations ',' operation
	;
operation:
	WORD { MUST(sp_pol_path_op(c, &$1)); }
	;
patterns:
	pattern
	| patterns ',' pattern
	;
pattern:
	STRING { MUST(sp_pol_path(c, &$1)); }
	;
kept:
	keep
	| kept ',' keep
	;
keep:
	WORD WORD { MUST(sp_pol_record(c, &$1, &$2)); }
	;
holds:
	held
	| holds ',' held
	;
held:
	WORD { MUST(sp_pol_hold(c, &$1)); }
	;
variables:
	variable
	| variables ',' variable
	;
variable:
	name { MUST(sp_pol_env(c, &$1)); }
	;
%%

static void
sp_policy_yyerror(const SP_POLICY_YYLTYPE *l, void *scanner,
    struct sp_policy_ctx *c, const char *msg)
{
	(void)scanner;
	sp_pol_fail(c, PLACE(*l), "%s", msg);
}

static void
append(char *dst, size_t cap, const char *s)
{
	size_t n = strlen(dst);

	snprintf(dst + n, cap - n, "%s", s);
}

/* Symbols that are spelled as they are written stand in quotes. */
static void
append_symbol(char *dst, size_t cap, yysymbol_kind_t k)
{
	bool bare = k == YYSYMBOL_WORD ||
	    k == YYSYMBOL_STRING || k == YYSYMBOL_YYEOF;
	const char *name = yysymbol_name(k);
	char t[40];

	if (name[0] == '\'' && name[1] != '\0')
		snprintf(t, sizeof(t), "\"%c\"", name[1]);
	else
		snprintf(t, sizeof(t), bare ? "%s" : "\"%s\"", name);
	append(dst, cap, t);
}

#define EXPECTED_MAX 24

/* A word that is a name here need not be offered beside "a word". */
static int
without_soft(yysymbol_kind_t *want, int n)
{
	bool name = false;
	int k = 0;

	for (int i = 0; i < n; i++)
		name = name || want[i] == YYSYMBOL_WORD;
	for (int i = 0; i < n; i++)
		if (!name || want[i] < YYSYMBOL_LIMIT || want[i] > YYSYMBOL_AT)
			want[k++] = want[i];
	return k;
}

static int
yyreport_syntax_error(const yypcontext_t *y, void *scanner,
    struct sp_policy_ctx *c)
{
	yysymbol_kind_t want[EXPECTED_MAX];
	yysymbol_kind_t got = yypcontext_token(y);
	int n = yypcontext_expected_tokens(y, want, EXPECTED_MAX);
	struct sp_near near = {.word = c->token};
	char text[400] = "expected ";

	(void)scanner;
	n = without_soft(want, n);
	for (int i = 0; i < n; i++) {
		if (i > 0)
			append(text, sizeof(text), i + 1 == n ? " or " : ", ");
		append_symbol(text, sizeof(text), want[i]);
		if (got == YYSYMBOL_WORD && want[i] != YYSYMBOL_WORD)
			sp_pol_near_offer(&near, yysymbol_name(want[i]));
	}
	append(text, sizeof(text), n > 0 ? ", found " : "something else than ");
	append(text, sizeof(text), got == YYSYMBOL_YYEOF ? "the end of the text" :
	    "\"");
	if (got != YYSYMBOL_YYEOF) {
		append(text, sizeof(text), c->token);
		append(text, sizeof(text), "\"");
	}
	if (near.best != NULL)
		sp_pol_fail(c, PLACE(*yypcontext_location(y)),
		    "\"%s\" has no meaning here: did you mean \"%s\"?", c->token,
		    near.best);
	else if (n > 0 && want[0] == YYSYMBOL_WORD && got > YYSYMBOL_STRING &&
	    c->token[0] >= 'a' && c->token[0] <= 'z')
		sp_pol_fail(c, PLACE(*yypcontext_location(y)),
		    "\"%s\" is a word of the language; as a name it stands in quotes",
		    c->token);
	else
		sp_pol_fail(c, PLACE(*yypcontext_location(y)), "%s", text);
	return 0;
}
