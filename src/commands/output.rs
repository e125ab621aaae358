//! Text for people: tables and times.

use jiff::Timestamp;

/// Columns side by side, each as wide as its longest cell; a column with nothing in it is left out.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<&'static str>,
    /// The columns of numbers, which end at one place.
    numbers: &'static [usize],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&'static str], numbers: &'static [usize]) -> Self {
        Self { header: header.to_vec(), numbers, rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(super) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().filter(|width| *width > 0)
        };
        let columns: Vec<(usize, &str, usize)> = self
            .header
            .iter()
            .enumerate()
            .filter_map(|(column, title)| Some((column, *title, width(column)?.max(title.chars().count()))))
            .collect();
        let mut line = |cell: &dyn Fn(usize, &'static str) -> String| -> std::fmt::Result {
            let mut text = String::new();
            for (at, (column, _, width)) in columns.iter().enumerate() {
                let title = self.header.get(*column).copied().unwrap_or_default();
                let cell = cell(*column, title);
                let gap = if at == 0 { "" } else { "  " };
                let cell = if self.numbers.contains(column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                text.push_str(gap);
                text.push_str(&cell);
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&|_, title| title.to_owned())?;
        for row in &self.rows {
            line(&|column, _| row.get(column).cloned().unwrap_or_default())?;
        }
        Ok(())
    }
}

/// A time to the minute, in UTC.
pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A length of time in its two largest units.
pub(super) fn lasting(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A number and the thing it counts.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["NAME", "LOGINS", "PLACE", "NOTES"], &[1]);
        table.add(vec!["Notch".into(), "7".into(), String::new(), "locked".into()]);
        table.add(vec!["jeb_".into(), "12345678".into(), String::new(), String::new()]);
        let expected = "NAME     LOGINS  NOTES\nNotch         7  locked\njeb_   12345678\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(minute("2026-01-02T03:04:59.9Z".parse().unwrap()), "2026-01-02 03:04");
        assert_eq!(count(1, "ban", "bans"), "1 ban");
        assert_eq!(count(0, "ban", "bans"), "0 bans");
    }
}
