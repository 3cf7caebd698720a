//! One scene's outcome: a table for people, an object for programs.

use serde_json::{Map, Value};

/// Characters in a line of the notes.
const LINE_MAX: usize = 120;

/// What each stack was found to do, in the order in which it is shown.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) scene: &'static str,
    pub(crate) options: Value,
    /// Where everything follows from one.
    pub(crate) seed: Option<u64>,
    pub(crate) columns: Vec<Column>,
    /// What the figures count and what they do not.
    pub(crate) notes: Vec<String>,
}

/// The figures of one stack: every column of a report has the same ones in the same order.
#[derive(Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) stack: &'static str,
    /// How many of them there were.
    pub(crate) peers: usize,
    pub(crate) figures: Vec<(&'static str, f64)>,
}

impl Report {
    /// A row for each figure, a column for each stack.
    pub(crate) fn table(&self) -> String {
        let names: Vec<&str> =
            self.columns.first().into_iter().flat_map(|column| &column.figures).map(|(name, _)| *name).collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let heads: String = self.columns.iter().map(|column| format!("  {:>18}", column.stack)).collect();
        let sizes: String = self.columns.iter().map(|column| format!("  {:>18}", format!("{} peers", column.peers))).collect();
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        let mut table = format!("{} {}{seed}\n  {:width$}{heads}\n  {:width$}{sizes}\n", self.scene, self.options, "", "");
        for (row, name) in names.iter().enumerate() {
            let values = self.columns.iter().filter_map(|column| column.figures.get(row));
            let values: String = values.map(|(_, value)| format!("  {:>18}", shown(*value))).collect();
            table.push_str(&format!("  {name:width$}{values}\n"));
        }
        self.notes.iter().for_each(|note| table.push_str(&wrapped(note)));
        table
    }

    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("experiment".into(), self.scene.into());
        object.insert("options".into(), self.options.clone());
        object.insert("seed".into(), self.seed.into());
        // One mesh of each stack: its figures. Several: the figures of each under its number of peers.
        let single = self.columns.iter().all(|column| column.peers == self.columns[0].peers);
        for column in &self.columns {
            let figures: Map<String, Value> =
                column.figures.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            if single {
                object.insert(column.stack.into(), figures.into());
            } else if let Some(sizes) = object.entry(column.stack).or_insert_with(|| Map::new().into()).as_object_mut() {
                sizes.insert(column.peers.to_string(), figures.into());
            }
        }
        object.insert("notes".into(), self.notes.clone().into());
        format!("{:#}\n", Value::Object(object))
    }
}

/// What is no number was not found.
fn shown(value: f64) -> String {
    if value.is_nan() { "-".into() } else { format!("{value:.4}") }
}

/// A paragraph of its own, in lines that a terminal shows whole.
fn wrapped(note: &str) -> String {
    let mut text = "\n*".to_owned();
    let mut length = text.len();
    for word in note.split(' ') {
        if length + 1 + word.len() > LINE_MAX {
            text.push_str("\n ");
            length = 1;
        }
        text.push(' ');
        text.push_str(word);
        length += 1 + word.len();
    }
    text
}

/// Prints to standard output, which is this program's whole purpose.
#[allow(clippy::print_stdout, reason = "a program that prints tables")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints what went wrong.
#[allow(clippy::print_stderr, reason = "a program that says why it failed")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}
