//! One experiment's outcome: a table for people, an object for programs.

use serde_json::{Map, Value};

/// What an experiment found, in the order in which it is shown.
#[derive(Debug)]
pub(crate) struct Report {
    experiment: &'static str,
    options: Value,
    seed: Option<u64>,
    fields: Vec<(String, Value)>,
}

impl Report {
    pub(crate) fn new(experiment: &'static str, options: Value, seed: Option<u64>) -> Self {
        Self { experiment, options, seed, fields: Vec::new() }
    }

    pub(crate) fn field(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.fields.push((name.into(), value.into()));
    }

    /// Two columns, the options above.
    pub(crate) fn table(&self) -> String {
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let rows = self.fields.iter().map(|(name, value)| format!("  {name:width$}  {}\n", shown(value)));
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        format!("{} {}{seed}\n{}", self.experiment, self.options, rows.collect::<String>())
    }

    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("experiment".into(), self.experiment.into());
        object.insert("options".into(), self.options.clone());
        object.insert("seed".into(), self.seed.into());
        object.extend(self.fields.iter().cloned());
        format!("{:#}\n", Value::Object(object))
    }
}

/// Prints to standard output, which is the lab's whole purpose.
#[allow(clippy::print_stdout, reason = "a program that prints tables")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints what went wrong.
#[allow(clippy::print_stderr, reason = "a program that says why it failed")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() != 0.0 => format!("{number:.4}"),
        _ => value.to_string(),
    }
}
