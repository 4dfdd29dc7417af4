//! The nearest known name to a misspelt one, for "did you mean".

/// The known name that is nearest to `name`, if one is near enough to be meant.
///
/// Near is: the same but for case, `-` and `_`; or at most a third of the letters changed, left out, added or swapped
/// with their neighbour.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(name);
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &folded(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= wanted.len().max(candidate.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "x"?`, or nothing.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

fn folded(name: &str) -> Vec<char> {
    // Names are short; the rest of a monstrous one changes nothing.
    name.chars().take(100).filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Edits to get from `a` to `b`; a swap of neighbours is one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(nearest(name, ["percpu", "totalcpu", "collect_cpu_time", "core_tags"]), expected, "{name}");
    }

    #[test]
    fn finds_the_meant_name() {
        check("percpuu", Some("percpu"));
        check("PerCPU", Some("percpu"));
        check("per_cpu", Some("percpu"));
        check("pecrpu", Some("percpu"));
        check("collectcputime", Some("collect_cpu_time"));
        check("core_tag", Some("core_tags"));
        check("interval", None);
        check("", None);
    }
}
