//! The help texts, made from the table of flags.

use std::fmt::Write as _;

use super::flags::{Kind, ROOT, Word};

/// The help on the last word of a path.
pub(super) fn text(path: &[&'static Word]) -> String {
    let names: Vec<&str> = path.iter().map(|word| word.name).collect();
    let word = path.last().copied().unwrap_or(&ROOT);
    let mut out = format!("NAME:\n   {} - {}\n\nUSAGE:\n   {}", names.join(" "), word.about, names.join(" "));
    out.push_str(" [flags]");
    if !word.words.is_empty() {
        out.push_str(" [command [flags]]");
    }
    if !word.arguments.is_empty() {
        let _ = write!(out, " {}", word.arguments);
    }
    out.push('\n');
    if !word.words.is_empty() {
        out.push_str("\nCOMMANDS:\n");
        let rows = word.words.iter().map(|word| (word.name.to_owned(), word.about));
        table(rows.chain([("help".to_owned(), "show help on a command")]), &mut out);
    }
    out.push_str("\nFLAGS:\n");
    let flags = word.flags.iter().copied().flatten().map(|flag| {
        let value = match flag.kind {
            Kind::Switch => "",
            Kind::Text => " text",
            Kind::List => " list",
            Kind::Int => " number",
            Kind::Duration => " duration",
        };
        (format!("--{}{value}", flag.name), flag.about)
    });
    table(flags.chain([("--help, -h".to_owned(), "show help")]), &mut out);
    out
}

/// The words that a topic names; `None` if there are none.
pub(super) fn path_of(start: &[&'static Word], topic: &[String]) -> Option<Vec<&'static Word>> {
    let mut path = start.to_vec();
    for name in topic {
        path.push(path.last()?.word(name)?);
    }
    Some(path)
}

fn table(rows: impl Iterator<Item = (String, &'static str)>, out: &mut String) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, about) in rows {
        let _ = writeln!(out, "   {name:width$}  {about}");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn of_a_command() {
        let path = path_of(&[&ROOT], &["secrets".to_owned(), "set".to_owned()]).unwrap();
        expect![[r#"
            NAME:
               heliograph secrets set - set a secret, or ask for its value

            USAGE:
               heliograph secrets set [flags] ID KEY [VALUE]

            FLAGS:
               --help, -h  show help
        "#]]
        .assert_eq(&text(&path));
        assert!(path_of(&[&ROOT], &["nonsense".to_owned()]).is_none());
        assert!(text(&[&ROOT]).contains("   --config list"));
    }
}
