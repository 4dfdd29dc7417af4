//! Tests of loading: merging, selection, and what refusals say.

use expect_test::{Expect, expect};
use heliograph_core::config::{Secret, SecretError, SecretStore, SecretStoreSpec};
use proptest::prelude::*;

use super::*;

struct Memory(String);

impl SecretStore for Memory {
    fn get(&self, key: &str) -> Result<Vec<u8>, SecretError> {
        Ok(format!("{}-{key}", self.0).into_bytes())
    }

    fn list(&self) -> Result<Vec<String>, SecretError> {
        Ok(Vec::new())
    }
}

static MEMORY: SecretStoreSpec = SecretStoreSpec {
    name: "memory",
    sample: "",
    build: |mut section| {
        let prefix = section.take("prefix")?.unwrap_or_default();
        section.finish_nothing()?;
        Ok(Arc::new(Memory(prefix)))
    },
};

fn options() -> LoadOptions {
    LoadOptions {
        known: KnownPlugins {
            inputs: vec!["cpu", "exec", "file", "mem", "socket_listener"],
            processors: vec!["override", "rename"],
            aggregators: vec!["minmax"],
            outputs: vec!["file", "graphite"],
            secret_stores: vec![&MEMORY],
            left_out: vec![(PluginKind::Output, "kafka", "kafka")],
        },
        os_hostname: "node".to_owned(),
        ..LoadOptions::default()
    }
}

fn variables(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("2003".to_owned()),
        "PW" => Some("hunter2".to_owned()),
        "TABLE" => Some("1 # one\n[[inputs.mem]]".to_owned()),
        _ => None,
    }
}

fn load_with(options: &LoadOptions, files: &[&str]) -> Result<Loaded, ConfigError> {
    let mut loader = Loader::new(options, &variables);
    for (index, text) in files.iter().enumerate() {
        loader.add(&format!("{}.conf", char::from(b'a' + u8::try_from(index).unwrap())), text.as_bytes())?;
    }
    Ok(loader.finish())
}

fn loaded(files: &[&str]) -> Loaded {
    load_with(&options(), files).unwrap()
}

/// Plugins in order with their name suffix or alias, and the tags.
fn summary(loaded: &Loaded) -> String {
    let mut parts: Vec<String> = Vec::new();
    for input in &loaded.inputs {
        parts.push(format!("{}{}", input.section.name(), input.options.rename.name_suffix));
    }
    for processor in &loaded.processors {
        parts.push(format!("{}:{}", processor.section.name(), processor.options.common.alias));
    }
    parts.extend(loaded.aggregators.iter().map(|aggregator| aggregator.section.name().to_owned()));
    parts.extend(loaded.outputs.iter().map(|output| format!("{}:{}", output.section.name(), output.metric_batch_size)));
    parts.extend(loaded.global_tags.iter().map(|(key, value)| format!("{key}={value}")));
    parts.join(" ")
}

fn check(files: &[&str], expected: Expect) {
    expected.assert_eq(&summary(&loaded(files)));
}

fn refused(text: &str, expected: Expect) {
    let error = load_with(&options(), &[text]).expect_err(text);
    expected.assert_eq(&error.line());
}

#[test]
fn merges_files() {
    check(
        &[
            "[[outputs.file]]\n[[inputs.cpu]]\n[global_tags]\na = \"1\"\nb = \"1\"",
            "[agent]\nmetric_batch_size = 10\nflush_interval = \"1s\"\n[[outputs.file]]\n[global_tags]\nb = \"2\"",
        ],
        expect!["inputs.cpu outputs.file:1000 outputs.file:10 a=1 b=2 host=node"],
    );
}

#[test]
fn host_tag() {
    check(&["[agent]\nhostname = \"one\"", "[agent]\nhostname = \"two\""], expect!["host=two"]);
    check(&["[agent]\nhostname = \"one\"", "[agent]\nomit_hostname = true"], expect!["host=one"]);
    check(&["[agent]\nomit_hostname = true", ""], expect![""]);
    check(&["[global_tags]\nhost = \"x\""], expect!["host=node"]);
    check(&["[agent]\nomit_hostname = true\n[global_tags]\nhost = \"x\""], expect!["host=x"]);
}

#[test]
fn legacy_tables() {
    check(
        &[
            "[tags]\na = \"t\"\nb = \"t\"\n[global_tags]\nb = \"g\"\n[cpu]\n[inputs.mem]\n[[plugins.file]]\n[outputs.file]",
        ],
        expect!["inputs.cpu inputs.mem inputs.file outputs.file:1000 a=t b=g host=node"],
    );
    check(
        &["agent = {omit_hostname = true}\ninputs = {cpu = {}, mem = [{}, {}]}"],
        expect!["inputs.cpu inputs.mem inputs.mem"],
    );
}

#[test]
fn order_of_plugins() {
    check(
        &[
            "[agent]\nomit_hostname = true\n[[processors.rename]]\norder = 2\nalias = \"r2\"\n[[processors.override]]\n\
             alias = \"o\"\n[[processors.rename]]\nalias = \"r\"\n[[inputs.cpu]]\n[[inputs.mem]]\n[[inputs.cpu]]\n\
             name_suffix = \"_2\"",
            "[[processors.override]]\norder = 1\nalias = \"o1\"\n[[processors.override]]\nalias = \"last\"",
        ],
        expect![
            "inputs.cpu inputs.mem inputs.cpu_2 processors.override:o processors.rename:r processors.override:last processors.override:o1 processors.rename:r2"
        ],
    );
}

#[test]
fn filters_and_selectors_come_before_decoding() {
    let text = "[agent]\nomit_hostname = true\n[[inputs.cpu]]\n[[inputs.nosuch]]\nx = 1\n[[inputs.mem]]\n\
                [inputs.mem.labels]\napp = \"web\"\n[[inputs.file]]\nlabels = {app = \"db\"}";
    let mut filtered = options();
    filtered.input_filter = Some(vec!["cpu".into(), "mem".into()]);
    assert_eq!(summary(&load_with(&filtered, &[text]).unwrap()), "inputs.cpu inputs.mem");
    filtered.select = vec![Selector::parse("app=d*").unwrap().unwrap()];
    assert_eq!(summary(&load_with(&filtered, &[text]).unwrap()), "inputs.cpu");
    filtered.output_filter = Some(vec!["file".into()]);
    load_with(&filtered, &["[[outputs.nosuch]]"]).unwrap();
}

#[test]
fn settings_of_the_time_of_loading() {
    let loaded = loaded(&["[[inputs.cpu]]", "[agent]\nalways_include_local_tags = true\n[[inputs.cpu]]"]);
    let found: Vec<bool> = loaded.inputs.iter().map(|input| input.always_include_local_tags).collect();
    assert_eq!(found, [false, true]);
}

#[test]
fn refusals_of_structure() {
    refused(
        "interval = \"1s\"",
        expect![[
            r#"a.conf:1:1: invalid configuration: "interval" is a string outside of any table, move it into one"#
        ]],
    );
    refused("[[inputs]]", expect![[r#"a.conf:1:3: invalid configuration: "inputs" cannot be a list, write [inputs]"#]]);
    refused("[[agent]]", expect![[r#"a.conf:1:3: invalid configuration: "agent" cannot be a list, write [agent]"#]]);
    refused(
        "[processors.rename]",
        expect![
            "a.conf:1:13: processors.rename: unsupported config format: a table where [[processors.rename]] is expected"
        ],
    );
    refused(
        "[inputs]\ncpu = 1",
        expect!["a.conf:2:1: inputs.cpu: unsupported config format: an integer where [[inputs.cpu]] is expected"],
    );
    refused(
        "[global_tags]\nrack = 7",
        expect![[r#"a.conf:2:8: global_tags: tag "rack" must be a string, not an integer"#]],
    );
    refused(
        "[inputs.cpuu]",
        expect![[r#"a.conf:1:1: inputs.cpuu: undefined but requested input: cpuu; did you mean "cpu"?"#]],
    );
    refused("[foo]", expect!["a.conf:1:1: inputs.foo: undefined but requested input: foo"]);
    refused(
        "[[inputs.httpjson]]",
        expect![
            "a.conf:1:1: inputs.httpjson: undefined but requested input: httpjson (plugin deprecated: it was removed from Telegraf, too)"
        ],
    );
    refused(
        "[[outputs.grafite]]",
        expect![[r#"a.conf:1:1: outputs.grafite: undefined but requested output: grafite; did you mean "graphite"?"#]],
    );
    refused(
        "[[outputs.kafka]]",
        expect![
            "a.conf:1:1: outputs.kafka: undefined but requested output: kafka (this program was built without `kafka`)"
        ],
    );
    refused("[agent]\n[agent]", expect![[r#"a.conf:2:1: table "agent" is defined twice, first in line 1"#]]);
    refused(
        "[[inputs.exec]]\ncommands = [\"${CMD:?no probe}\"]",
        expect!["a.conf:2:13: inputs.exec: required variable CMD is missing a value: no probe"],
    );
    refused(
        "[[inputs.exec]]\nport = ${PORT}",
        expect![[
            r#"a.conf:2:8: expected a value, found "$": a variable needs quotes ("${NAME}"), or the option --non-strict-env-handling for numbers and booleans"#
        ]],
    );
}

#[test]
fn refusals_of_common_options() {
    refused(
        "[[inputs.cpu]]\ninterval = \"\"",
        expect![[
            r#"a.conf:2:12: inputs.cpu: option "interval": error parsing duration: invalid duration "": no number, write for example "10s""#
        ]],
    );
    refused(
        "[[inputs.cpu]]\ninterval = \"10\"",
        expect![[
            r#"a.conf:2:12: inputs.cpu: option "interval": error parsing duration: invalid duration "10": missing unit, write for example "10s""#
        ]],
    );
    refused(
        "[[inputs.cpu]]\ninterval = \"1d\"",
        expect![[
            r#"a.conf:2:12: inputs.cpu: option "interval": error parsing duration: invalid duration "1d": unknown unit "d""#
        ]],
    );
    refused(
        "[[inputs.cpu]]\ninterval = \"-1s\"",
        expect![[r#"a.conf:2:12: inputs.cpu: option "interval" is -1s, but must not be negative"#]],
    );
    refused(
        "[[inputs.cpu]]\nstartup_error_behavior = \"shrug\"",
        expect![[
            r#"a.conf:2:26: inputs.cpu: option "startup_error_behavior" is "shrug", but must be one of "error", "retry", "ignore", "probe""#
        ]],
    );
    refused(
        "[[outputs.file]]\nstartup_error_behavior = \"probe\"",
        expect![[
            r#"a.conf:2:26: outputs.file: option "startup_error_behavior" is "probe", but must be one of "error", "retry", "ignore""#
        ]],
    );
    refused(
        "[[inputs.cpu]]\ntime_source = \"now\"",
        expect![[
            r#"a.conf:2:15: inputs.cpu: option "time_source" is "now", but must be one of "metric", "collection_start", "collection_end""#
        ]],
    );
    refused(
        "[[inputs.cpu]]\ntags = {a = 1}",
        expect![[r#"a.conf:2:13: inputs.cpu: option "tags.a" must be a string, not an integer (1)"#]],
    );
    refused(
        "[[inputs.cpu]]\nnamepass = \"x\"",
        expect![[r#"a.conf:2:12: inputs.cpu: option "namepass" must be a list of strings, not a string"#]],
    );
    refused(
        "[[inputs.cpu]]\npass = [\"[c-a]\"]",
        expect![[r#"a.conf:2:8: inputs.cpu: option "pass": invalid glob "[c-a]": the range falls at byte 0"#]],
    );
    refused(
        "[[inputs.cpu]]\ntagpass = \"x\"",
        expect![[r#"a.conf:2:11: inputs.cpu: option "tagpass" must be a table of lists, not a string"#]],
    );
    refused(
        "[[inputs.cpu]]\ntagpass = {a = \"x\"}",
        expect![[r#"a.conf:2:16: inputs.cpu: option "tagpass.a" must be a list of strings, not a string"#]],
    );
    refused(
        "[[inputs.cpu]]\nlabels = {a = \"b c\"}",
        expect![[
            r#"a.conf:2:11: inputs.cpu: option "labels": invalid label "b c": only letters, digits, ".", "_" and "-""#
        ]],
    );
    refused(
        "[[processors.rename]]\norder = \"1\"",
        expect![[r#"a.conf:2:9: processors.rename: option "order" must be an integer, not a string ("1")"#]],
    );
    refused(
        "[[aggregators.minmax]]\nperiod = \"0s\"",
        expect![[r#"a.conf:2:10: aggregators.minmax: option "period" is 0s, but must be above zero"#]],
    );
    refused(
        "[[aggregators.minmax]]\ndrop_original = 1",
        expect![[r#"a.conf:2:17: aggregators.minmax: option "drop_original" must be true or false, not an integer"#]],
    );
    refused(
        "[[aggregators.minmax]]\ndrop_original = \"yes\"",
        expect![[
            r#"a.conf:2:17: aggregators.minmax: option "drop_original" is "yes", but must be one of "true", "false""#
        ]],
    );
}

#[test]
fn refusals_of_the_agent() {
    refused(
        "[agent]\nmetric_batch_size = 10.5",
        expect![[r#"a.conf:2:21: agent: option "metric_batch_size" must be an integer, not a float (10.5)"#]],
    );
    refused(
        "[agent]\nmetric_batch_size = -1",
        expect![[r#"a.conf:2:21: agent: option "metric_batch_size" is -1, but must not be negative"#]],
    );
    refused(
        "[agent]\nomit_hostname = 1",
        expect![[r#"a.conf:2:17: agent: option "omit_hostname" must be true or false, not an integer (1)"#]],
    );
    refused(
        "[agent]\nbuffer_strategy = \"tape\"",
        expect![[
            r#"a.conf:2:19: agent: option "buffer_strategy" is "tape", but must be one of "memory", "disk", "disk_write_through""#
        ]],
    );
    refused(
        "[agent]\nflush_buffer_when_full = true",
        expect![[r#"a.conf:2:1: agent: unknown option "flush_buffer_when_full""#]],
    );
    refused("[agent]\nDebug = true", expect![[r#"a.conf:2:1: agent: unknown option "Debug"; did you mean "debug"?"#]]);
    refused(
        "[agent]\nstatus_address = \":80\"",
        expect![[r#"a.conf:2:18: agent: option "status_address" is not in this version: remove it"#]],
    );
    refused(
        "[agent]\nconfig_url_retry_attempts = -2",
        expect![[r#"a.conf:2:29: agent: option "config_url_retry_attempts" is -2, but must be -1 (no end) or more"#]],
    );
}

#[test]
fn the_agent_is_validated_after_merging() {
    let validated = |text: &str| match loaded(&[text]).agent.validate() {
        Ok(()) => "fine".to_owned(),
        Err(error) => error.line(),
    };
    expect![[r#"a.conf:2:12: agent: option "interval" is 0s, but must be above zero"#]]
        .assert_eq(&validated("[agent]\ninterval = 0"));
    expect![[r#"a.conf:2:17: agent: option "flush_interval" is -1s, but must be above zero"#]]
        .assert_eq(&validated("[agent]\nFlushInterval = \"-1s\""));
    expect![[r#"a.conf:2:21: agent: option "collection_offset" is -1s, but must not be negative"#]]
        .assert_eq(&validated("[agent]\ncollection_offset = \"-1s\""));
    expect![[r#"a.conf:2:13: agent: option "logformat" is "xml", but must be one of "text", "structured""#]]
        .assert_eq(&validated("[agent]\nlogformat = \"xml\""));
    expect![[r#"a.conf:2:21: agent: option "log_with_timezone" is "Mars/Base", which is not a known time zone"#]]
        .assert_eq(&validated("[agent]\nlog_with_timezone = \"Mars/Base\""));
    expect![[r#"a.conf:3:38: agent: options "skip_processors_before_aggregators" and "skip_processors_after_aggregators" are both true: no processor would ever run"#]].assert_eq(&validated(
        "[agent]\nskip_processors_after_aggregators = true\nskip_processors_before_aggregators = true",
    ));
    expect![[r#"a.conf:2:19: agent: option "buffer_max_size" is 1000000B, but must be 1MiB or more"#]]
        .assert_eq(&validated("[agent]\nbuffer_max_size = \"1MB\""));
    expect![[r#"a.conf:3:23: agent: option "buffer_segment_size" is 512KiB, but must be from 64KiB to a quarter of buffer_max_size (1MiB)"#]].assert_eq(&validated("[agent]\nbuffer_max_size = \"1MiB\"\nbuffer_segment_size = \"512KiB\""));
    expect![[r#"a.conf:2:26: agent: option "buffer_commit_interval" is -1s, but must not be negative"#]]
        .assert_eq(&validated("[agent]\nbuffer_commit_interval = \"-1s\""));
    assert_eq!(validated("[agent]\nbuffer_max_size = \"1MiB\"\nbuffer_segment_size = \"64KiB\""), "fine");
    let sizes = |text: &str| loaded(&[text]).agent.segment_size();
    let derived = ["2MiB", "64MiB", "10GB"].map(|size| sizes(&format!("[agent]\nbuffer_max_size = {size:?}")));
    assert_eq!(derived, [128 << 10, 4 << 20, 16 << 20]);
    assert_eq!(validated("[agent]\nlog_with_timezone = \"Local\"\ninterval = \"1d\"\nprecision = \"\""), "fine");
    let later = loaded(&["[agent]\ninterval = 0", "[agent]\ninterval = 5"]);
    later.agent.validate().unwrap();
}

#[test]
fn common_options() {
    let loaded = loaded(&["[[inputs.cpu]]\ninterval = 30\nprecision = 3600\ncollection_jitter = \"0s\"\nalias = 7\n\
         log_level = \"loud\"\ntime_source = \"collection_end\"\npass = [\"a\"]\nfieldpass = [\"b\"]\n\
         fieldinclude = [\"c\", 1]\ntagpass = {k = [], n = {x = 1}}\ntagdrop = {}\ntags = \"x\"\n\
         [[aggregators.minmax]]\ndrop_original = \"T\"\n[[outputs.file]]\nmetric_batch_size = 7\nflush_interval = \"0s\"\n\
         tags = {a = 1}"]);
    let input = &loaded.inputs[0].options;
    assert_eq!((input.interval, input.precision), (None, None));
    assert_eq!(input.collection_jitter, Some(std::time::Duration::ZERO));
    assert_eq!(input.time_source, crate::config::TimeSource::CollectionEnd);
    assert_eq!(input.common.filter.fieldinclude, ["a", "b", "c"]);
    assert_eq!(input.common.filter.tagpass, Some(vec![("k".to_owned(), Vec::new())]));
    assert_eq!((&input.common.filter.tagdrop, &input.common.alias), (&None, &String::new()));
    assert!(input.tags.is_empty() && loaded.aggregators[0].options.drop_original);
    assert_eq!((loaded.outputs[0].metric_batch_size, loaded.outputs[0].options.flush_interval), (7, None));
    loaded.inputs[0].section.clone().finish_nothing().unwrap();
}

#[test]
fn options_of_outputs_that_are_ours() {
    let output = |text: &str| loaded(&[&format!("[[outputs.file]]\n{text}")]).outputs.remove(0);
    let read = output("retry_initial = \"500ms\"\nretry_max = \"1m\"\nmetric_max_age = \"1h\"");
    assert_eq!(output("metric_max_age = \"0s\"").options.metric_max_age, None);
    assert_eq!(read.options.metric_max_age.map(|age| age.as_secs()), Some(3600));
    let seconds = |duration: Option<std::time::Duration>| duration.map(|duration| duration.as_secs_f64());
    assert_eq!((seconds(read.options.retry_initial), seconds(read.options.retry_max)), (Some(0.5), Some(60.0)));
    read.section.finish_nothing().unwrap();
    refused(
        "[[outputs.file]]\nretry_max = \"-1s\"",
        expect![[r#"a.conf:2:13: outputs.file: option "retry_max" is -1s, but must not be negative"#]],
    );
    refused(
        "[[outputs.file]]\nretry_initial = \"soon\"",
        expect![[r#"a.conf:2:17: outputs.file: option "retry_initial": invalid duration "soon": unknown unit "soon""#]],
    );
    let unknown = loaded(&["[[inputs.cpu]]\nretry_max = \"1s\""]).inputs[0].section.clone().finish_nothing();
    assert!(unknown.is_err(), "inputs do not know them");
}

#[test]
fn time_source_of_another_meaning() {
    loaded(&["[[inputs.socket_listener]]\ntime_source = \"receive_time\""]);
}

#[test]
fn secrets() {
    let text = "[[outputs.graphite]]\npassword = \"a@{s:k}\"\n[[secretstores.memory]]\nid = \"s\"\nprefix = \"p\"";
    let output = loaded(&[text]).outputs.remove(0);
    let secret: Secret = output.section.get("password").unwrap().unwrap();
    assert_eq!(secret.resolve().unwrap().as_str().unwrap(), "ap-k");
    refused(
        "[[secretstores.memory]]",
        expect![[r#"a.conf:1:1: secretstores.memory: a secret store needs an "id", by which secrets name it"#]],
    );
    refused(
        "[[secretstores.memory]]\nid = \"a-b\"",
        expect![[
            r#"a.conf:2:6: secretstores.memory: option "id" is "a-b", but may hold only letters, digits and "_""#
        ]],
    );
    refused(
        "[[secretstores.memory]]\nid = \"a\"\n[[secretstores.memory]]\nid = \"a\"",
        expect![[r#"a.conf:4:6: secretstores.memory: option "id" is "a", which another secret store has already"#]],
    );
    refused(
        "[[secretstores.vault]]\nid = \"a\"",
        expect!["a.conf:1:1: secretstores.vault: undefined but requested secretstores: vault"],
    );
    refused(
        "[secretstores.memory]\nid = \"a\"",
        expect![
            "a.conf:1:15: secretstores.memory: unsupported config format: a table where [[secretstores.memory]] is expected"
        ],
    );
}

#[test]
fn variables_strict() {
    let loaded = loaded(&["# ${X:?no}\n[[inputs.exec]]\nservers = [\"h:${PORT}\"]\n\"$PORT\" = \"$TABLE\""]);
    let servers: Vec<String> = loaded.inputs[0].section.get("servers").unwrap().unwrap();
    assert_eq!(servers, ["h:2003"]);
    assert!(loaded.inputs[0].section.contains("$PORT"));
}

#[test]
fn variables_in_the_text() {
    let mut options = options();
    options.environment.strict = false;
    let loaded = load_with(&options, &["[[inputs.cpu]]\nport = ${PORT}\none = $TABLE\n\nx = \"$UNSET\""]).unwrap();
    assert_eq!(loaded.inputs[0].section.get::<u16>("port").unwrap(), Some(2003));
    assert_eq!(loaded.inputs[1].section.name(), "inputs.mem");
    // The place is that of the file as written, although the variable brought in a line.
    let error = loaded.inputs[1].section.get::<u16>("x").unwrap_err();
    expect![[r#"
        a.conf:5:5: inputs.mem: option "x" must be an integer, not a string ("$UNSET")
           |
         5 | x = "$UNSET"
           |     ^^^^^^^^"#]]
    .assert_eq(&error.to_string());
    let error = load_with(&options, &["[[outputs.file]]\n files = [\"${F:?where to}\"]"]).unwrap_err();
    expect!["a.conf:2:12: required variable F is missing a value: where to"].assert_eq(&error.line());
}

#[test]
fn values_of_variables_are_never_shown() {
    for strict in [true, false] {
        let mut options = options();
        options.environment.strict = strict;
        let hidden = |error: ConfigError| {
            let error = error.to_string();
            assert!(error.contains("${PW}") && !error.contains("hunter2"), "{error}");
        };
        let loaded =
            load_with(&options, &["[[inputs.exec]]\npassword = \"${PW}\" # c\nlist = [\"a${PW}\"]\n"]).unwrap();
        let section = &loaded.inputs[0].section;
        hidden(section.get::<heliograph_core::config::Size>("password").unwrap_err());
        hidden(section.get::<Vec<heliograph_core::config::Size>>("list").unwrap_err());
        hidden(section.get::<bool>("password").unwrap_err());
        hidden(load_with(&options, &["[[inputs.exec]]\nstartup_error_behavior = \"${PW}\""]).unwrap_err());
        hidden(load_with(&options, &["[agent]\ninterval = \"${PW}\""]).unwrap_err());
        hidden(load_with(&options, &["[[inputs.exec]]\nnamepass = [\"[${PW}\"]"]).unwrap_err());
    }
}

#[test]
fn bytes_that_are_not_text() {
    let options = options();
    let mut loader = Loader::new(&options, &variables);
    loader.add("a", b"\xEF\xBB\xBF[global_tags]\nbad = \"a\xff\xe2\x82b\"").unwrap();
    assert_eq!(loader.finish().global_tags["bad"], "a\u{fffd}\u{fffd}\u{fffd}b");
}

#[test]
fn ids_depend_on_options_alone() {
    use crate::config::plugin_id;

    let id = |text: &str| plugin_id("inputs", &loaded(&[text]).inputs[0].section);
    assert_eq!(id("[[inputs.cpu]]\na = 1\nb = \"x\""), id("[[inputs.cpu]]\nb = \"x\" # c\na = 1"));
    assert_ne!(id("[[inputs.cpu]]\na = 1"), id("[[inputs.mem]]\na = 1"));
    assert_ne!(id("[[inputs.cpu]]\na = 'x'"), id("[[inputs.cpu]]\na = \"x\""));
    let output = |text: &str| plugin_id("outputs", &loaded(&[text]).outputs[0].section);
    assert_eq!(output("[[outputs.file]]\na = 1\nretry_max = \"1m\""), output("[[outputs.file]]\na = 1"));
    // sha256("inputs.cpu\0" "a:1\0" "t.b:\"x\"\0")
    expect!["ac0c8717c46b231babd79bcd0eec5b858d11bcf9f01f3b269ea4c89d06869b3e"]
        .assert_eq(&id("[[inputs.cpu]]\nt = {b = \"x\"}\na = 1"));
}

proptest! {
    #[test]
    fn any_bytes_are_loaded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), strict in any::<bool>()) {
        let mut options = options();
        options.environment.strict = strict;
        let _ = Loader::new(&options, &variables).add("a", &bytes);
    }
}
