//! Globs over the file system, as options like `files` hold them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::glob::{GlobError, Token, tokens_match};

/// A pattern of paths.
///
/// `*`, `?` and `[…]` stay within a path component and match names with a dot in front too; `[!x]` and `[^x]` negate;
/// `{a,b/c}` are alternatives; `\` escapes; `**` stands for any number of directories, and text glued to it belongs to
/// the last component: `/a/**.log` is each `*.log` at any depth, and `a/**/b` wants at least one directory between.
#[derive(Clone, Debug)]
pub struct FileGlob {
    is_absolute: bool,
    /// One list of steps for each way to choose among alternatives; none if the pattern is malformed.
    routes: Vec<Vec<Step>>,
}

/// What a route asks of the next path component.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// This name; also `.` and `..`.
    Name(Vec<u8>),
    /// A name that matches.
    Match(Vec<Token>),
    /// Any number of directories.
    Descend,
}

/// More ways to choose among alternatives than this make a pattern malformed.
const MOST_ROUTES: usize = 1024;

/// Directories nested deeper than this are not entered; it ends what symbolic links could make endless.
const DEEPEST: usize = 255;

impl FileGlob {
    /// Compiles a pattern with `**` and alternatives; a malformed one matches nothing.
    pub fn new(pattern: &str) -> Self {
        let is_absolute = pattern.starts_with('/');
        // What users write as `**.log` or `**` descends and then matches one component.
        let pattern = pattern.replace("**/**", "**").replace("**", "**/**");
        let routes = expand_braces(&pattern).and_then(|routes| {
            routes.iter().map(|route| steps(route, Dialect::Extended)).collect::<Result<_, _>>().ok()
        });
        Self { is_absolute, routes: routes.unwrap_or_default() }
    }

    /// Compiles a pattern as shells have it: `*`, `?`, `[…]`, `[^…]` and `\`, without `**` and alternatives.
    ///
    /// Fails on a malformed pattern.
    pub fn shell(pattern: &str) -> Result<Self, GlobError> {
        Ok(Self { is_absolute: pattern.starts_with('/'), routes: vec![steps(pattern, Dialect::Shell)?] })
    }

    /// The paths that exist now: each directory in order of names, and what lies deeper under a `**` first.
    ///
    /// A pattern without wildcards gives its path if that exists. Directories match too; what cannot be read does not.
    /// Relative patterns start at the working directory and give relative paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut walk = Walk { found: Vec::new(), above: HashSet::new() };
        let routes: Vec<&[Step]> = self.routes.iter().map(Vec::as_slice).collect();
        if !routes.is_empty() {
            walk.visit(Path::new(if self.is_absolute { "/" } else { "" }), routes, 0);
        }
        walk.found
    }
}

struct Walk {
    found: Vec<PathBuf>,
    /// Device and inode of the directories on the way down to the present one.
    above: HashSet<(u64, u64)>,
}

impl Walk {
    /// Follows routes, each at least one step long, from a directory.
    fn visit(&mut self, directory: &Path, mut routes: Vec<&[Step]>, depth: usize) {
        // Names need no look into the directory, which may not even be readable.
        if let [route] = routes.as_slice()
            && let Some((Step::Name(name), rest)) = route.split_first()
        {
            let path = join(directory, name);
            return match rest {
                [] if fs::symlink_metadata(&path).is_ok() => self.found.push(path),
                [] => {}
                _ => self.visit(&path, vec![rest], depth + 1),
            };
        }
        let Some(entries) = names_of(directory).filter(|_| depth < DEEPEST) else {
            return;
        };
        let descending: Vec<&[Step]> =
            routes.iter().copied().filter(|route| route.first() == Some(&Step::Descend)).collect();
        if !descending.is_empty() {
            for name in &entries {
                self.descend(&join(directory, name), &descending, depth);
            }
            for route in &mut routes {
                *route = route.strip_prefix(&[Step::Descend]).unwrap_or(route);
            }
        }
        for name in &entries {
            let mut rests: Vec<&[Step]> = Vec::new();
            let mut is_found = false;
            for route in &routes {
                let Some((step, rest)) = route.split_first() else {
                    continue;
                };
                let is_match = match step {
                    Step::Name(wanted) => wanted == name,
                    Step::Match(tokens) => tokens_match(tokens, &[], name),
                    Step::Descend => true,
                };
                match rest {
                    _ if !is_match => {}
                    [] => is_found = true,
                    _ if !rests.contains(&rest) => rests.push(rest),
                    _ => {}
                }
            }
            if is_found {
                self.found.push(join(directory, name));
            }
            if !rests.is_empty() {
                self.visit(&join(directory, name), rests, depth + 1);
            }
        }
    }

    /// Enters a directory under `**`, unless a link leads back to one above it.
    fn descend(&mut self, path: &Path, routes: &[&[Step]], depth: usize) {
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        let identity = (metadata.dev(), metadata.ino());
        if metadata.is_dir() && self.above.insert(identity) {
            self.visit(path, routes.to_vec(), depth + 1);
            self.above.remove(&identity);
        }
    }
}

/// The names in a directory in lexical order; nothing if it is none or cannot be read.
fn names_of(directory: &Path) -> Option<Vec<Vec<u8>>> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut names: Vec<Vec<u8>> =
        fs::read_dir(directory).ok()?.flatten().map(|entry| entry.file_name().as_bytes().to_vec()).collect();
    names.sort_unstable();
    Some(names)
}

/// A path with one more component, cleaned as Go cleans paths: `..` takes the last one away, `.` adds none.
fn join(directory: &Path, name: &[u8]) -> PathBuf {
    let parent = directory.components().next_back();
    match (name, parent) {
        (b"..", Some(Component::Normal(_))) => directory.parent().unwrap_or(directory).to_owned(),
        (b"..", Some(Component::RootDir)) | (b".", Some(_)) => directory.to_owned(),
        _ => directory.join(OsStr::from_bytes(name)),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    Extended,
    Shell,
}

/// Splits a pattern without alternatives into its components.
fn steps(pattern: &str, dialect: Dialect) -> Result<Vec<Step>, GlobError> {
    let mut steps = Vec::new();
    for component in split_components(pattern).filter(|component| !matches!(*component, "" | ".")) {
        // The second half of `**/**` is one component.
        if component == "**" && dialect == Dialect::Extended && steps.last() != Some(&Step::Descend) {
            steps.push(Step::Descend);
            continue;
        }
        let tokens = component_tokens(component, pattern, dialect)?;
        steps.push(match tokens.as_slice() {
            [Token::Literal(name)] => Step::Name(name.clone()),
            _ => Step::Match(tokens),
        });
    }
    if steps.is_empty() {
        steps.push(Step::Name(b".".to_vec()));
    }
    Ok(steps)
}

/// Splits at each `/` that is not escaped.
fn split_components(pattern: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    pattern.split(move |character| {
        let is_separator = character == '/' && !escaped;
        escaped = character == '\\' && !escaped;
        is_separator
    })
}

fn component_tokens(component: &str, pattern: &str, dialect: Dialect) -> Result<Vec<Token>, GlobError> {
    let error = |problem| GlobError {
        pattern: pattern.to_owned(),
        offset: component.as_ptr().addr() - pattern.as_ptr().addr(),
        problem,
    };
    let mut tokens = Vec::new();
    let mut rest = component.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '*' => {
                if tokens.last() != Some(&Token::Run) {
                    tokens.push(Token::Run);
                }
            }
            '?' => tokens.push(Token::One),
            '\\' => Token::push_literal(&mut tokens, rest.next().ok_or_else(|| error("a `\\` escapes nothing"))?),
            '[' => {
                let negated =
                    rest.next_if(|&next| next == '^' || next == '!' && dialect == Dialect::Extended).is_some();
                let mut members = Vec::new();
                loop {
                    let low = match rest.next() {
                        Some(']') if !members.is_empty() => break,
                        low => class_member(low, &mut rest).ok_or_else(|| error("`[` is not closed"))?,
                    };
                    let mut high = low;
                    if rest.next_if_eq(&'-').is_some() {
                        let next = rest.next();
                        high = class_member(next, &mut rest).ok_or_else(|| error("`[` is not closed"))?;
                    }
                    members.push(low..=high);
                }
                tokens.push(Token::Class { negated, members });
            }
            _ => Token::push_literal(&mut tokens, character),
        }
    }
    Ok(tokens)
}

/// A character of a class, possibly escaped; a bare `-` or `]` is none.
fn class_member(character: Option<char>, rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match character? {
        '\\' => rest.next(),
        '-' | ']' => None,
        character => Some(character),
    }
}

/// All patterns that come of choosing one alternative of each `{…}`; nothing if braces do not close.
fn expand_braces(pattern: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        if done.len() + open.len() > MOST_ROUTES {
            return None;
        }
        match first_braces(&pattern)? {
            None => done.push(pattern),
            Some((start, end, alternatives)) => {
                // Pushed in reverse, so that they are popped as written.
                for alternative in alternatives.iter().rev() {
                    open.push(format!("{}{alternative}{}", &pattern[..start], &pattern[end..]));
                }
            }
        }
    }
    Some(done)
}

/// Where the first `{…}` of a pattern begins and ends, and what it offers.
fn first_braces(pattern: &str) -> Option<Option<(usize, usize, Vec<&str>)>> {
    let (mut start, mut depth) = (None, 0);
    let mut cuts = Vec::new();
    let mut characters = pattern.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '{' => {
                start = start.or(Some(at));
                depth += 1;
            }
            ',' if depth == 1 => cuts.push(at),
            '}' if depth == 1 => {
                let start = start?;
                let begins = std::iter::once(start).chain(cuts.iter().copied()).map(|at| at + 1);
                let ends = cuts.iter().copied().chain([at]);
                let alternatives = begins.zip(ends).map(|(begin, end)| &pattern[begin..end]).collect();
                return Some(Some((start, at + 1, alternatives)));
            }
            '}' if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    if depth == 0 { Some(None) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Makes files, runs a pattern below their directory, and gives what it finds there.
    fn find(files: &[&str], pattern: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        relative(root.path(), FileGlob::new(&format!("{}/{pattern}", root.path().display())).paths())
    }

    fn relative(root: &Path, paths: Vec<PathBuf>) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    const TREE: [&str; 6] = ["a1.log", "a2.log", ".hidden.log", "b/x.log", "b/c/y.log", "b/c/d/z.txt"];

    #[test]
    fn within_a_component() {
        assert_eq!(find(&TREE, "*.log"), [".hidden.log", "a1.log", "a2.log"]);
        assert_eq!(find(&TREE, "a?.log"), ["a1.log", "a2.log"]);
        assert_eq!(find(&TREE, "a[!1].log"), ["a2.log"]);
        assert_eq!(find(&TREE, "a[^1].log"), ["a2.log"]);
        assert_eq!(find(&TREE, "a[0-13].log"), ["a1.log"]);
        assert_eq!(find(&TREE, "a\\1.log"), ["a1.log"]);
        assert_eq!(find(&TREE, "*/x.log"), ["b/x.log"]);
    }

    #[test]
    fn a_plain_path_is_itself_if_it_exists() {
        assert_eq!(find(&TREE, "b/x.log"), ["b/x.log"]);
        assert_eq!(find(&TREE, "b/./c/../x.log"), ["b/x.log"]);
        assert_eq!(find(&TREE, "b/c"), ["b/c"]);
        assert!(find(&TREE, "b/nothing").is_empty());
        assert_eq!(FileGlob::new("/").paths(), [PathBuf::from("/")]);
    }

    #[test]
    fn alternatives() {
        assert_eq!(find(&TREE, "{a2,a1}.log"), ["a1.log", "a2.log"]);
        assert_eq!(find(&TREE, "{a1.log,b/c/*}"), ["a1.log", "b/c/d", "b/c/y.log"]);
        assert_eq!(find(&TREE, "a{1,{2,3}}.log"), ["a1.log", "a2.log"]);
        assert_eq!(find(&TREE, "a1{,x}.log"), ["a1.log"]);
    }

    #[test]
    fn across_directories() {
        assert_eq!(find(&TREE, "**.log"), ["b/c/y.log", "b/x.log", ".hidden.log", "a1.log", "a2.log"]);
        assert_eq!(find(&TREE, "**/*.log"), ["b/c/y.log", "b/x.log"]);
        assert_eq!(find(&TREE, "b/**"), ["b/c/d/z.txt", "b/c/d", "b/c/y.log", "b/c", "b/x.log"]);
        assert_eq!(find(&TREE, "b/**/*.txt"), ["b/c/d/z.txt"]);
    }

    #[test]
    fn malformed_patterns_match_nothing() {
        for pattern in ["[", "a[", "[]", "[a-]", "{a", "a\\", "*[-a]*", &"{a,b}".repeat(20)] {
            assert!(find(&TREE, pattern).is_empty(), "{pattern}");
        }
        assert_eq!(
            FileGlob::shell("/x/a[").unwrap_err().to_string(),
            "invalid glob \"/x/a[\": `[` is not closed at byte 3"
        );
    }

    #[test]
    fn shells_know_less() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/c")).unwrap();
        fs::write(root.path().join("b/{x,y}"), b"").unwrap();
        let find = |pattern: &str| {
            relative(root.path(), FileGlob::shell(&format!("{}/{pattern}", root.path().display())).unwrap().paths())
        };
        assert_eq!(find("**"), ["b"]);
        assert_eq!(find("*/{x,*"), ["b/{x,y}"]);
    }

    #[test]
    fn links_in_a_circle_end() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/f"), b"").unwrap();
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/loop")).unwrap();
        let pattern = format!("{}/**/f", root.path().display());
        assert_eq!(relative(root.path(), FileGlob::new(&pattern).paths()), ["a/loop/f", "a/f"]);
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a*?{},\\[\\]\\\\/!^-]{0,12}") {
            let _ = FileGlob::new(&format!("/nowhere-at-all/{pattern}")).paths();
            let _ = FileGlob::shell(&pattern);
        }
    }
}
