//! The command words with their flags: the one table that parsing and help read.

/// A command word, or the program itself.
#[derive(Debug)]
pub(super) struct Word {
    pub name: &'static str,
    /// One line for the list of commands.
    pub about: &'static str,
    /// What follows the flags, as the help shows it.
    pub arguments: &'static str,
    /// Flags, in groups that several words share.
    pub flags: &'static [&'static [Flag]],
    /// Words that may follow.
    pub words: &'static [Word],
}

/// A flag, `--name` or `-name`.
#[derive(Debug)]
pub(super) struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub about: &'static str,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing, or `=true` and the like.
    Switch,
    /// A text; the last one counts.
    Text,
    /// Texts, of several flags and between commas.
    List,
    /// A whole number.
    Int,
    /// A duration like `1m30s`.
    Duration,
}

impl Word {
    /// The flag of this name, if the word has it.
    pub fn flag(&self, name: &str) -> Option<&'static Flag> {
        self.flags.iter().copied().flatten().find(|flag| flag.name == name)
    }

    /// The word that may follow under this name.
    pub fn word(&self, name: &str) -> Option<&'static Word> {
        self.words.iter().find(|word| word.name == name)
    }
}

const fn flag(name: &'static str, kind: Kind, about: &'static str) -> Flag {
    Flag { name, kind, about }
}

const fn word(name: &'static str, about: &'static str) -> Word {
    Word { name, about, arguments: "", flags: &[], words: &[] }
}

static LOCATIONS: &[Flag] = &[
    flag("config", Kind::List, "configuration file or address to load"),
    flag("config-directory", Kind::List, "directory with further *.conf files"),
];

static FILTERS: &[Flag] = &[
    flag("section-filter", Kind::Text, "sections to print, as a:b (agent, global_tags, secretstores, outputs, …)"),
    flag("input-filter", Kind::Text, "inputs to enable, as a:b"),
    flag("output-filter", Kind::Text, "outputs to enable, as a:b"),
    flag("aggregator-filter", Kind::Text, "aggregators to print, as a:b"),
    flag("processor-filter", Kind::Text, "processors to print, as a:b"),
    flag("secretstore-filter", Kind::Text, "secret stores to enable, as a:b"),
];

static ENVIRONMENT: &[Flag] = &[
    flag("strict-env-handling", Kind::Switch, "put environment variables into strings only (default of a run)"),
    flag("non-strict-env-handling", Kind::Switch, "put environment variables into the text, as numbers and tables too"),
    flag("old-env-behavior", Kind::Switch, "leave $$ as it is"),
];

static FETCHING: &[Flag] =
    &[flag("config-url-retry-attempts", Kind::Int, "further attempts to fetch an address: 0 for 3, -1 for no end")];

static SELECT: &[Flag] = &[flag("select", Kind::List, "plugins to enable by their labels, as key=value;key2=value2")];

static RUN: &[Flag] = &[
    flag("config-url-watch-interval", Kind::Duration, "how often addresses are looked at for changes; 0 for never"),
    flag("watch-config", Kind::Text, "reload when a file changes: notify or poll"),
    flag("watch-interval", Kind::Duration, "how often files are looked at with poll; 0 for 250ms"),
    flag("watch-debounce-interval", Kind::Duration, "quiet time after a change before the reload"),
    flag("test", Kind::Switch, "gather once, print the metrics, and exit"),
    flag("test-wait", Kind::Int, "seconds to wait for service inputs with --test and --once; alone it means --test"),
    flag("once", Kind::Switch, "gather once, write, and exit"),
    flag("debug", Kind::Switch, "log at level debug"),
    flag("quiet", Kind::Switch, "log errors only"),
    flag("pidfile", Kind::Text, "file for the process id"),
    flag("password", Kind::Text, "password of secret stores that ask for one"),
    flag("unprotected", Kind::Switch, "do not lock secrets in memory"),
    flag("print-plugin-config-source", Kind::Switch, "log which file each plugin comes from"),
    flag("pprof-addr", Kind::Text, "not supported: Go's profiles do not exist here"),
    flag("plugin-directory", Kind::Text, "not supported: plugins cannot be loaded from shared objects"),
];

static PRINT: &[Flag] = &[
    flag("usage", Kind::Text, "print the sample configuration of an input or output"),
    flag("input-list", Kind::Switch, "print the inputs (deprecated: plugins inputs)"),
    flag("output-list", Kind::Switch, "print the outputs (deprecated: plugins outputs)"),
    flag("deprecation-list", Kind::Switch, "print deprecated plugins and options"),
    flag("version", Kind::Switch, "print the version (deprecated: version)"),
    flag("sample-config", Kind::Switch, "print a sample configuration (deprecated: config)"),
];

static DEMO: &[Flag] = &[
    flag("devices", Kind::Int, "simulated devices (default 300)"),
    flag("rate", Kind::Int, "messages a second of all devices together (default 500)"),
    flag("seconds", Kind::Int, "how long it lasts; 0, the default, is until Ctrl-C"),
    flag("folder", Kind::Text, "folder for configuration, log and Graphite lines; by default a fresh temporary one"),
    flag("graphite", Kind::Text, "Graphite server to send to as well, as host:port"),
    flag("remote-write", Kind::Text, "address of a remote-write receiver to send to as well"),
];

static FORCE: &[Flag] = &[flag("force", Kind::Switch, "overwrite an existing migrated file")];
static DEPRECATED: &[&[Flag]] = &[&[flag("deprecated", Kind::Switch, "only those that are deprecated")]];
static REVEAL: &[Flag] = &[flag("reveal-secret", Kind::Switch, "show the secrets")];

const fn list_of(name: &'static str, about: &'static str) -> Word {
    Word { flags: DEPRECATED, ..word(name, about) }
}

/// The program.
pub(super) static ROOT: Word = Word {
    flags: &[LOCATIONS, FETCHING, FILTERS, SELECT, ENVIRONMENT, RUN, PRINT],
    words: &[
        Word {
            flags: &[LOCATIONS, FETCHING, FILTERS, SELECT, ENVIRONMENT],
            words: &[
                Word {
                    flags: &[LOCATIONS, FETCHING, FILTERS, SELECT, ENVIRONMENT],
                    ..word("check", "load the configuration and set up its plugins without starting them")
                },
                Word { flags: &[FILTERS], ..word("create", "print a full sample configuration") },
                Word {
                    flags: &[LOCATIONS, FETCHING, FORCE],
                    ..word("migrate", "replace deprecated options, into <file>.migrated")
                },
            ],
            ..word("config", "print, check and migrate configurations")
        },
        Word {
            flags: DEPRECATED,
            words: &[
                list_of("inputs", "list the inputs"),
                list_of("outputs", "list the outputs"),
                list_of("processors", "list the processors"),
                list_of("aggregators", "list the aggregators"),
                list_of("secretstores", "list the secret stores"),
                list_of("parsers", "list the parsers"),
                list_of("serializers", "list the serializers"),
            ],
            ..word("plugins", "list the plugins of this program")
        },
        Word {
            words: &[
                Word {
                    flags: &[REVEAL], arguments: "[ID…]", ..word("list", "list the secrets of stores, or of all")
                },
                Word { arguments: "ID KEY", ..word("get", "print a secret") },
                Word { arguments: "ID KEY [VALUE]", ..word("set", "set a secret, or ask for its value") },
                Word { arguments: "ID KEY", ..word("remove", "remove a secret") },
            ],
            ..word("secrets", "list, read and change the secrets of the stores in the configuration")
        },
        Word { flags: &[DEMO], ..word("demo", "show the agent at work, with MQTT devices and a broker of its own") },
        word("version", "print the version"),
    ],
    ..word("heliograph", "gathers, shapes and ships metrics, by a Telegraf configuration")
};
