/* math_words.c - tables; see math_words.h. */
#include "datasets/math_words.h"

#include <string.h>

typedef struct {
    const char *name;
    kv_command_role role;
    const char *canonical; /* NULL = name */
} command;

#define NOTHING(name)                                                                                                  \
    { name, KV_COMMAND_NOTHING, NULL }
#define SPACE(name)                                                                                                    \
    { name, KV_COMMAND_SPACE, NULL }
#define STYLE(name)                                                                                                    \
    { name, KV_COMMAND_STYLE, NULL }
#define LETTER(name)                                                                                                   \
    { name, KV_COMMAND_LETTER, NULL }
#define KNOWN(name)                                                                                                    \
    { name, KV_COMMAND_KNOWN, NULL }
#define ALIAS(name, of)                                                                                                \
    { name, KV_COMMAND_KNOWN, of }

static const command commands[] = {
    NOTHING("left"),
    NOTHING("right"),
    NOTHING("big"),
    NOTHING("Big"),
    NOTHING("bigg"),
    NOTHING("Bigg"),
    NOTHING("bigl"),
    NOTHING("bigr"),
    NOTHING("Bigl"),
    NOTHING("Bigr"),
    NOTHING("biggl"),
    NOTHING("biggr"),
    NOTHING("displaystyle"),
    NOTHING("textstyle"),
    NOTHING("limits"),
    NOTHING("$"),
    NOTHING("("),
    NOTHING(")"),
    NOTHING("boxed"),
    NOTHING("fbox"),
    NOTHING("bold"),
    NOTHING("rm"),
    NOTHING("bf"),
    NOTHING("boldsymbol"),
    NOTHING("vec"),
    NOTHING("hat"),
    NOTHING("underline"),
    NOTHING("angle"),
    NOTHING("triangle"),
    NOTHING("!"),
    NOTHING("mathbb"),
    NOTHING("mathcal"),
    NOTHING("pounds"),
    NOTHING("mathopen"),
    NOTHING("mathclose"),
    SPACE(","),
    SPACE(";"),
    SPACE(":"),
    SPACE(">"),
    SPACE(" "),
    SPACE("\n"),
    SPACE("\t"),
    SPACE("quad"),
    SPACE("qquad"),
    SPACE("enspace"),
    SPACE("thinspace"),
    SPACE("hspace"),
    SPACE("["),
    SPACE("]"),
    STYLE("text"),
    STYLE("mbox"),
    STYLE("mathrm"),
    STYLE("textbf"),
    STYLE("textit"),
    STYLE("textrm"),
    STYLE("textsf"),
    STYLE("texttt"),
    STYLE("mathbf"),
    STYLE("mathit"),
    STYLE("mathsf"),
    STYLE("operatorname"),
    STYLE("hbox"),
    STYLE("emph"),
    STYLE("textnormal"),
    LETTER("alpha"),
    LETTER("beta"),
    LETTER("gamma"),
    LETTER("delta"),
    LETTER("epsilon"),
    LETTER("varepsilon"),
    LETTER("zeta"),
    LETTER("eta"),
    LETTER("theta"),
    LETTER("kappa"),
    LETTER("lambda"),
    LETTER("mu"),
    LETTER("nu"),
    LETTER("xi"),
    LETTER("rho"),
    LETTER("sigma"),
    LETTER("tau"),
    LETTER("phi"),
    LETTER("varphi"),
    LETTER("chi"),
    LETTER("psi"),
    LETTER("omega"),
    LETTER("Gamma"),
    LETTER("Delta"),
    LETTER("Theta"),
    LETTER("Lambda"),
    LETTER("Sigma"),
    LETTER("Phi"),
    LETTER("Psi"),
    LETTER("Omega"),
    LETTER("ell"),
    {"\\", KV_COMMAND_ROW, "\\\\"},
    ALIAS("cr", "\\\\"),
    {"begin", KV_COMMAND_BEGIN, NULL},
    {"end", KV_COMMAND_FINISH, NULL},
    KNOWN("frac"),
    ALIAS("dfrac", "frac"),
    ALIAS("tfrac", "frac"),
    ALIAS("cfrac", "frac"),
    KNOWN("sqrt"),
    KNOWN("pi"),
    KNOWN("infty"),
    KNOWN("pm"),
    KNOWN("mp"),
    KNOWN("cdot"),
    ALIAS("times", "cdot"),
    ALIAS("ast", "cdot"),
    ALIAS("bullet", "cdot"),
    KNOWN("div"),
    KNOWN("degree"),
    ALIAS("circ", "degree"),
    ALIAS("%", "percent"),
    KNOWN("cup"),
    KNOWN("cap"),
    KNOWN("setminus"),
    ALIAS("backslash", "setminus"),
    KNOWN("in"),
    KNOWN("le"),
    ALIAS("leq", "le"),
    ALIAS("leqslant", "le"),
    KNOWN("ge"),
    ALIAS("geq", "ge"),
    ALIAS("geqslant", "ge"),
    KNOWN("ne"),
    ALIAS("neq", "ne"),
    ALIAS("lt", "<"),
    ALIAS("gt", ">"),
    KNOWN("approx"),
    ALIAS("thickapprox", "approx"),
    ALIAS("simeq", "approx"),
    ALIAS("doteq", "approx"),
    KNOWN("{"),
    KNOWN("}"),
    ALIAS("lbrace", "{"),
    ALIAS("rbrace", "}"),
    KNOWN("sin"),
    KNOWN("cos"),
    KNOWN("tan"),
    KNOWN("cot"),
    KNOWN("sec"),
    KNOWN("csc"),
    KNOWN("arcsin"),
    KNOWN("arccos"),
    KNOWN("arctan"),
    KNOWN("ln"),
    KNOWN("log"),
    KNOWN("lg"),
    KNOWN("exp"),
    KNOWN("sinh"),
    KNOWN("cosh"),
    KNOWN("tanh"),
    KNOWN("binom"),
    ALIAS("dbinom", "binom"),
    ALIAS("tbinom", "binom"),
    KNOWN("overline"),
    ALIAS("bar", "overline"),
    ALIAS("dot", "overline"),
    KNOWN("emptyset"),
    ALIAS("varnothing", "emptyset"),
    ALIAS("mid", "|"),
    ALIAS("vert", "|"),
    ALIAS("lvert", "|"),
    ALIAS("rvert", "|"),
    KNOWN("langle"),
    KNOWN("rangle"),
    KNOWN("lfloor"),
    KNOWN("rfloor"),
    KNOWN("lceil"),
    KNOWN("rceil"),
    KNOWN("to"),
    ALIAS("rightarrow", "to"),
};

kv_command_role kv_math_command(kv_span name, const char **canonical) {
    for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
        const command *c = &commands[k];
        if (strlen(c->name) != name.n || memcmp(c->name, name.s, name.n)) continue;
        *canonical = c->canonical ? c->canonical : c->name;
        return c->role;
    }
    return KV_COMMAND_UNKNOWN;
}

size_t kv_math_unicode(kv_span a, const char **command) {
    static const struct {
        const char *bytes, *command;
    } signs[] = {
        {"\xc2\xb0", "degree"},       {"\xc2\xb1", "pm"},     {"\xc2\xb7", "cdot"},     {"\xc3\x97", "cdot"},
        {"\xc3\xb7", "div"},          {"\xcf\x80", "pi"},     {"\xe2\x88\x92", "-"},    {"\xe2\x80\x93", "-"},
        {"\xe2\x89\xa4", "le"},       {"\xe2\x89\xa5", "ge"}, {"\xe2\x89\xa0", "ne"},   {"\xe2\x88\x9e", "infty"},
        {"\xe2\x88\xaa", "cup"},      {"\xe2\x88\x88", "in"}, {"\xe2\x88\x9a", "sqrt"}, {"\xe2\x89\x88", "approx"},
        {"\xe2\x88\x85", "emptyset"},
    };
    for (size_t k = 0; k < sizeof signs / sizeof *signs; k++) {
        size_t n = strlen(signs[k].bytes);
        if (a.n < n || memcmp(a.s, signs[k].bytes, n)) continue;
        *command = signs[k].command;
        return n;
    }
    if (a.n && *a.s == '%') {
        *command = "percent";
        return 1;
    }
    return 0;
}

static const char *in_list(const char *const *list, size_t n_list, kv_span word) {
    for (size_t k = 0; k < n_list; k++)
        if (strlen(list[k]) == word.n && !memcmp(list[k], word.s, word.n)) return list[k];
    return NULL;
}

const char *kv_math_function(kv_span word) {
    static const char *const names[] = {"sin",  "cos",  "tan",  "cot", "sec", "csc", "arcsin", "arccos", "arctan",
                                        "sinh", "cosh", "tanh", "ln",  "log", "lg",  "exp",    "sqrt",   "pi"};
    return in_list(names, sizeof names / sizeof *names, word);
}

int kv_math_unit(kv_span word) {
    static const char *const units[] = {
        "degree",  "degrees", "deg",     "radian",  "radians", "mm",     "cm",     "km",      "meter",  "meters",
        "metre",   "metres",  "inch",    "inches",  "in",      "foot",   "feet",   "ft",      "yard",   "yards",
        "mile",    "miles",   "mph",     "square",  "squared", "sq",     "cubic",  "cubed",   "cu",     "unit",
        "units",   "dollar",  "dollars", "cent",    "cents",   "hour",   "hours",  "hr",      "hrs",    "minute",
        "minutes", "min",     "second",  "seconds", "sec",     "day",    "days",   "week",    "weeks",  "month",
        "months",  "year",    "years",   "liter",   "liters",  "litre",  "litres", "ml",      "gallon", "gallons",
        "pound",   "pounds",  "lb",      "lbs",     "ounce",   "ounces", "oz",     "kg",      "gram",   "grams",
        "mg",      "per",     "people",  "ways",    "points",  "point",  "pieces", "students"};
    return in_list(units, sizeof units / sizeof *units, word) != NULL;
}

static kv_span first_word(kv_span text) {
    size_t n = 0;
    while (text.n && strchr(" ,.\t\n", *text.s)) text.s++, text.n--;
    while (n < text.n && !strchr(" ,.\t\n", text.s[n])) n++;
    return (kv_span){text.s, n};
}

unsigned long kv_math_scale(kv_span text) {
    static const struct {
        const char *name;
        unsigned long value;
    } scales[] = {{"dozen", 12},        {"hundred", 100},        {"thousand", 1000},
                  {"million", 1000000}, {"billion", 1000000000}, {"trillion", 1000000000000}};
    kv_span word = first_word(text);
    for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
        size_t n = strlen(scales[k].name);
        int plural = word.n == n + 1 && word.s[n] == 's';
        if ((word.n == n || plural) && !memcmp(scales[k].name, word.s, n)) return scales[k].value;
    }
    return 0;
}

int kv_math_conjunction(kv_span text, int *alone) {
    static const char *const names[] = {"and", "or"};
    kv_span word = first_word(text), rest = {word.s + word.n, (size_t)(text.s + text.n - word.s) - word.n};
    if (alone) *alone = !first_word(rest).n;
    return in_list(names, 2, word) != NULL;
}

int kv_math_number_word(kv_span word) {
    static const char *const names[] = {"zero",     "one",      "two",      "three",   "four",    "five",
                                        "six",      "seven",    "eight",    "nine",    "ten",     "eleven",
                                        "twelve",   "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
                                        "eighteen", "nineteen", "twenty"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strlen(names[k]) == word.n && !strncasecmp(names[k], word.s, word.n)) return (int)k;
    return -1;
}

int kv_math_base(kv_span word) {
    int value = kv_math_number_word(word);
    if (value >= 2) return value;
    value = 0;
    if (!word.n || word.n > 2) return 0;
    for (size_t i = 0; i < word.n; i++) {
        if (word.s[i] < '0' || word.s[i] > '9') return 0;
        value = 10 * value + (word.s[i] - '0');
    }
    return value >= 2 && value <= 36 ? value : 0;
}
