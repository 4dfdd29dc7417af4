//! Memory of this process, in the fields in which a Go program reports its own.

use std::fs;
use std::io;

/// What a Go runtime counts and this process does not have is 0.
pub(super) type Figures = [(&'static str, u64); 13];

/// Reads them from the system. Fails where there is no `/proc`.
pub(super) fn read() -> io::Result<Figures> {
    let text = fs::read_to_string("/proc/self/statm")?;
    figures(&text, rustix::param::page_size() as u64)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("unexpected content {:?}", text.trim())))
}

/// From the text of `statm`: program size, resident, shared, text, library, data and dirty, in pages. Source: proc(5).
fn figures(statm: &str, page: u64) -> Option<Figures> {
    let pages: Vec<u64> = statm.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
    let &[size, resident, shared, _, _, data, ..] = pages.as_slice() else { return None };
    let bytes = |pages: u64| pages.saturating_mul(page);
    // What is resident and not backed by a file is, but for the stacks, the heap.
    let used = bytes(resident.saturating_sub(shared));
    let heap = bytes(data).max(used);
    Some([
        ("alloc_bytes", used),
        ("total_alloc_bytes", 0),
        ("sys_bytes", bytes(size)),
        ("pointer_lookups", 0),
        ("mallocs", 0),
        ("frees", 0),
        ("heap_alloc_bytes", used),
        ("heap_sys_bytes", heap),
        ("heap_idle_bytes", heap - used),
        ("heap_in_use_bytes", used),
        ("heap_released_bytes", 0),
        ("heap_objects", 0),
        ("num_gc", 0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_bytes() {
        let figures = figures("1000 300 100 40 0 500 0\n", 4096).unwrap();
        let get = |key| figures.iter().find(|(name, _)| *name == key).unwrap().1 / 4096;
        assert_eq!(["sys_bytes", "alloc_bytes", "heap_sys_bytes", "heap_idle_bytes"].map(get), [1000, 200, 500, 300]);
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(figures("", 4096).is_none() && figures("1 2 x 4 5 6 7", 4096).is_none());
    }
}
