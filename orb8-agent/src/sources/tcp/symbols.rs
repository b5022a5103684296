//! Names of the kernel's functions, for the places where packets are dropped.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    sync::Arc,
};

use hashbrown::HashMap;

/// Places that are remembered: a kernel has a few hundred that drop packets.
const MAX_KNOWN: usize = 1024;

/// Finds the function that an address is in. Looking through all of the kernel's symbols takes a
/// while, so what is asked for is looked up later, all at once.
#[derive(Debug)]
pub(super) struct Symbols {
    file: PathBuf,
    known: HashMap<u64, Option<Arc<str>>>,
    asked: Vec<u64>,
}

impl Symbols {
    /// Looks in the running kernel's table.
    pub(super) fn of_kernel() -> Self {
        Self::of("/proc/kallsyms".into())
    }

    fn of(file: PathBuf) -> Self {
        Self { file, known: HashMap::new(), asked: Vec::new() }
    }

    /// Returns the function's name where it was found; else remembers that it was asked for.
    pub(super) fn get(&mut self, address: u64) -> Option<Arc<str>> {
        if let Some(name) = self.known.get(&address) {
            return name.clone();
        }
        if self.known.len() + self.asked.len() < MAX_KNOWN && !self.asked.contains(&address) {
            self.asked.push(address);
        }
        None
    }

    /// Returns what looks for everything that was asked for; `None` where that is nothing.
    pub(super) fn search(&mut self) -> Option<impl FnOnce() -> Found + Send + 'static> {
        if self.asked.is_empty() {
            return None;
        }
        let (file, mut asked) = (self.file.clone(), std::mem::take(&mut self.asked));
        asked.sort_unstable();
        Some(move || {
            let names = search(&file, &asked).unwrap_or_else(|error| {
                tracing::debug!(%error, "the kernel's symbols cannot be read");
                Vec::new()
            });
            asked.into_iter().zip(names.into_iter().chain(std::iter::repeat(None))).collect()
        })
    }

    /// Remembers what a search found, and what it did not.
    pub(super) fn learn(&mut self, found: Found) {
        self.known.extend(found);
    }
}

/// Names by address.
type Found = Vec<(u64, Option<Arc<str>>)>;

/// Finds, for each of the ascending addresses, the last symbol that is not above it.
fn search(file: &PathBuf, addresses: &[u64]) -> io::Result<Vec<Option<Arc<str>>>> {
    let mut best: Vec<(u64, Option<Arc<str>>)> = vec![(0, None); addresses.len()];
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(file)?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if let Some((at, name)) = function(&line) {
            // All above: it may be nearer to each of them.
            let first = addresses.partition_point(|address| *address < at);
            for (nearest, found) in &mut best[first..] {
                if at > *nearest {
                    (*nearest, *found) = (at, Some(name.into()));
                } else {
                    break;
                }
            }
        }
        line.clear();
    }
    Ok(best.into_iter().map(|(_, name)| name).collect())
}

/// `ffffffff81000000 T tcp_v4_rcv`, or with `[module]` behind it. Without privileges all are zero.
fn function(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let at = u64::from_str_radix(words.next()?, 16).ok().filter(|at| *at != 0)?;
    let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
    is_code.then_some(())?;
    Some((at, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Symbols {
        fn find(&mut self) {
            if let Some(search) = self.search() {
                let found = search();
                self.learn(found);
            }
        }
    }

    #[test]
    fn an_address_is_in_the_function_before_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let table = "0000000000001000 T first\n\
                     0000000000003000 t third\n\
                     0000000000002000 T second\t[module]\n\
                     0000000000002800 d data\n\
                     not a line\n";
        std::fs::write(file.path(), table).unwrap();
        let mut symbols = Symbols::of(file.path().to_owned());
        let addresses = [0x2fff, 0x1000, 0x3001, 0x500];
        assert!(addresses.iter().all(|at| symbols.get(*at).is_none()), "not looked for yet");
        symbols.find();
        let found = addresses.map(|at| symbols.get(at));
        let expected = [Some("second"), Some("first"), Some("third"), None];
        assert_eq!(found.each_ref().map(Option::as_deref), expected);
        assert!(symbols.asked.is_empty(), "what was not found is not looked for again");
    }

    #[test]
    fn a_table_of_zeroes_or_none_names_nothing() {
        let mut symbols = Symbols::of("/nonexistent".into());
        symbols.get(1);
        symbols.find();
        assert_eq!(symbols.get(1), None);
        assert_eq!(function("0000000000000000 T hidden"), None);
    }
}
