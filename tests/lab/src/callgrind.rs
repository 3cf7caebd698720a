//! Instructions and allocations of one function and all that it calls, counted by valgrind's callgrind: the same on every machine
//! that runs the same program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::experiment::{Failure, finish};

/// What allocates: the C library's functions, to which Rust's allocator leads.
const ALLOCATORS: [&str; 6] = ["malloc", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign"];

/// What was counted while the function ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    /// Of those the ones in a part of it, with all that this calls; 0 where the compiler left no such function.
    pub(crate) of_part: u64,
    /// Calls of the allocator that ask for memory.
    pub(crate) allocations: u64,
}

/// Whether this machine has it.
pub(crate) fn is_there() -> bool {
    ["valgrind", "vgdb"].iter().all(|program| {
        let version = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

/// A program of ours that counts where it [`watches`](watched) functions whose name ends so, and leaves its counts in that file.
pub(crate) fn command(program: &Path, function: &str, counts: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--instr-atstart=no"]);
    command.args(["--compress-strings=no", "--compress-pos=no", "--dump-instr=yes", "--dump-line=no"]);
    // A hash may follow the name.
    command.arg(format!("--toggle-collect=*{function}*")).arg(format!("--callgrind-out-file={}", counts.display()));
    command.arg(program);
    command
}

/// Does something in this process, which was started by [`command`], while callgrind looks: all else runs many times faster.
pub(crate) fn watched<T>(what: impl FnOnce() -> T) -> Result<T, Failure> {
    instrument("on")?;
    let result = what();
    instrument("off")?;
    Ok(result)
}

fn instrument(mode: &str) -> Result<(), Failure> {
    let mut vgdb = Command::new("vgdb");
    vgdb.arg(format!("--pid={}", std::process::id())).args(["instrumentation", mode]);
    finish(vgdb.stdout(Stdio::null()).stderr(Stdio::null()), "vgdb, which tells valgrind when to count,")
}

/// The counts in such a file, which is removed.
pub(crate) fn counts(path: &PathBuf, part: &str) -> Result<Counts, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    // It was ours and temporary; a leftover in the temporary folder does no harm.
    let _ = std::fs::remove_file(path);
    let counts = parse(&text, part);
    let nothing = || Failure::Unmet("callgrind counted nothing: the function that is measured was not found".into());
    counts.filter(|counts| counts.instructions > 0).ok_or_else(nothing)
}

/// See "Callgrind Format Specification" in valgrind's manual; positions are addresses of instructions. None without a total.
///
/// Calls are counted by how often the first instruction of what is called ran: the number of calls that the file tells counts those,
/// too, that were made while nothing was to be counted.
fn parse(text: &str, part: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut total = None;
    let (mut caller, mut called) = ("", "");
    let mut entries: BTreeSet<&str> = BTreeSet::new();
    // How often each instruction of the allocators ran.
    let mut ran: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("fn=") {
            caller = name;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            called = name;
        } else if let Some(call) = line.strip_prefix("calls=") {
            // The next line has the position of the call, and what it cost with all that was called by it.
            let cost = lines.next()?.split_whitespace().nth(1).map_or(Some(0), |cost| cost.parse().ok())?;
            if allocates(called) {
                entries.extend(call.split_whitespace().nth(1));
            }
            if called.contains(part) && !caller.contains(part) {
                counts.of_part += cost;
            }
        } else if let Some(cost) = line.strip_prefix("totals:") {
            total = cost.trim().parse().ok();
        } else if line.starts_with("0x") && allocates(caller) {
            let (position, cost) = line.split_once(' ')?;
            *ran.entry(position).or_default() += cost.trim().parse::<u64>().ok()?;
        }
    }
    counts.allocations = entries.iter().filter_map(|entry| ran.get(entry)).sum();
    total.map(|instructions| Counts { instructions, ..counts })
}

fn allocates(function: &str) -> bool {
    // Names of functions that call themselves end in a number.
    ALLOCATORS.contains(&function.split('\'').next().unwrap_or(function))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
version: 1
positions: instr
events: Ir
fn=lab::tick
0x10 40
cob=/lib/libc.so.6
cfi=???
cfn=malloc
calls=300 0x800
0x12 45
cfn=room::coder::encode
calls=2 0x200
0x14 5000

fn=room::coder::encode
0x200 900
cfn=room::coder::encode'2
calls=7 0x200
0x203 4000
cfn=realloc'2
calls=400 0x900
0x204 40
cfn=free
calls=900 0xa00
0x205 70

fn=malloc
0x800 3
0x802 30
cfn=malloc_consolidate
calls=5 0x880
0x808 12

fn=realloc'2
0x900 4
0x902 36
cfn=malloc
calls=10 0x800
0x904 20

fn=free
0xa00 9

totals: 5340
";

    #[test]
    fn what_asks_for_memory_is_counted_and_what_frees_is_not() {
        let counts = parse(FILE, "coder::encode").unwrap();
        assert_eq!(counts, Counts { instructions: 5_340, of_part: 5_000, allocations: 7 });
        assert_eq!(parse(FILE, "nowhere").unwrap().of_part, 0);
    }

    #[test]
    fn a_file_cut_short_has_no_counts() {
        assert_eq!(parse(FILE.split("totals").next().unwrap(), "coder::encode"), None);
        assert_eq!(parse("cfn=malloc\ncalls=3 0\n", ""), None);
    }
}
