//! One experiment's outcome: a table for people, an object for programs.

use serde_json::{Map, Value};

use crate::stats::{Figure, mean_and_worst};

/// What an experiment found, in the order in which it is shown.
#[derive(Debug)]
pub(crate) struct Report {
    experiment: &'static str,
    options: Value,
    seed: Option<u64>,
    fields: Vec<(String, Value)>,
    /// Of several seeds the worst, where the fields are means.
    worst: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(experiment: &'static str, options: Value, seed: Option<u64>) -> Self {
        Self { experiment, options, seed, fields: Vec::new(), worst: Map::new() }
    }

    pub(crate) fn field(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.fields.push((name.into(), value.into()));
    }

    /// The same figures of one or several runs: their means and, of several, the worst beside them.
    pub(crate) fn runs(&mut self, runs: &[Vec<Figure>]) {
        let Some(first) = runs.first() else { return };
        for (row, figure) in first.iter().enumerate() {
            let same: Vec<Figure> = runs.iter().filter_map(|run| run.get(row).copied()).collect();
            let found = mean_and_worst(&same);
            self.field(figure.name, found.map(|(mean, _)| mean));
            if runs.len() > 1 {
                self.worst.insert(figure.name.into(), found.map(|(_, worst)| worst).into());
            }
        }
    }

    /// Two columns, or three where there is a worst; the options above.
    pub(crate) fn table(&self) -> String {
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let rows = self.fields.iter().map(|(name, value)| match self.worst.get(name) {
            Some(worst) => format!("  {name:width$}  {:>12}  {:>12}\n", shown(value), shown(worst)),
            None => format!("  {name:width$}  {:>12}\n", shown(value)),
        });
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        let head =
            if self.worst.is_empty() { String::new() } else { format!("  {:width$}  {:>12}  {:>12}\n", "", "mean", "worst") };
        format!("{} {}{seed}\n{head}{}", self.experiment, self.options, rows.collect::<String>())
    }

    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("experiment".into(), self.experiment.into());
        object.insert("options".into(), self.options.clone());
        object.insert("seed".into(), self.seed.into());
        object.extend(self.fields.iter().cloned());
        if !self.worst.is_empty() {
            object.insert("worst".into(), self.worst.clone().into());
        }
        format!("{:#}\n", Value::Object(object))
    }
}

/// Prints to standard output, which is the lab's whole purpose.
#[allow(clippy::print_stdout, reason = "a program that prints tables")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints what went wrong, or how far it is.
#[allow(clippy::print_stderr, reason = "a program that says why it failed")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() != 0.0 => format!("{number:.4}"),
        Some(number) => format!("{number}"),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_show_their_mean_and_their_worst() {
        let mut report = Report::new("test", Value::Null, Some(1));
        report.runs(&[vec![Figure::less("late_ms", 1.0)], vec![Figure::less("late_ms", 4.0)]]);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["late_ms"], &json["worst"]["late_ms"]), (&2.5.into(), &4.0.into()));
        assert!(report.table().contains("2.5000") && report.table().contains("4"));
    }

    #[test]
    fn what_never_came_is_no_number() {
        let mut report = Report::new("test", Value::Null, Some(1));
        report.runs(&[vec![Figure::soon("merged_ms", None)]]);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert!(json["merged_ms"].is_null() && json.get("worst").is_none());
    }
}
