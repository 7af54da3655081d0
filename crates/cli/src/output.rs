//! Data to standard output, talk to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing happens")]

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::exit::Exit;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

impl Format {
    /// What `--json`, given or not, and the environment ask for.
    pub(crate) fn wanted(json: bool) -> Self {
        let asked = std::env::var_os("MICROAGENT_OUTPUT").is_some_and(|value| value == "json");
        if json || asked { Self::Json } else { Self::Text }
    }
}

/// Writes a line of talk.
pub(crate) fn talk(line: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a question, whose answer is typed behind it.
pub(crate) fn ask(question: &str) {
    let _ = write!(std::io::stderr().lock(), "{question}");
}

/// Writes a line of data; false if nobody reads any more.
pub(crate) fn try_data(line: &str) -> bool {
    writeln!(std::io::stdout().lock(), "{line}").is_ok()
}

/// Writes text as it is.
pub(crate) fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that has gone away needs nothing.
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line of data. A reader that has gone away, as `head` does, is no failure.
pub(crate) fn data(line: &str) {
    let _ = try_data(line);
}

/// Writes one JSON document.
pub(crate) fn json(document: &impl Serialize) {
    data(&serde_json::to_string_pretty(document).expect("documents are plain data"));
}

/// Writes rows under their headings, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) {
    // A reader that has gone away is no failure.
    let _ = try_table(headings, rows);
}

/// The same; false if nobody reads any more.
pub(crate) fn try_table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> bool {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let mut widths: [usize; N] = std::array::from_fn(width);
    if let Some(columns) = terminal_columns() {
        fit(&mut widths, columns);
    }
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{:<width$}", cut(cell, width)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    try_data(&line(&headings.map(str::to_owned))) && rows.iter().all(|row| try_data(&line(row)))
}

/// How many characters a line of standard output has, if it is a terminal.
fn terminal_columns() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// Takes from the widest columns until a line fits. Where that would leave a few characters of each, lines are longer.
fn fit(widths: &mut [usize], columns: usize) {
    const NARROW: usize = 8;
    const NARROWEST: usize = 4;
    let gaps = 2 * widths.len().saturating_sub(1);
    let least = |narrow: usize| widths.iter().map(|&width| width.min(narrow)).sum::<usize>() + gaps;
    let narrow = if least(NARROW) > columns && least(NARROWEST) <= columns { NARROWEST } else { NARROW };
    while widths.iter().sum::<usize>() + gaps > columns {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > narrow) else { return };
        *widest -= 1;
    }
}

/// The text in so many characters; a mark stands for what is left out.
fn cut(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…").into()
}

/// What `version --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Version {
    version: &'static str,
    commit: Option<&'static str>,
}

/// Writes this program's version.
pub(crate) fn version(format: Format) -> Exit {
    let version = Version { version: env!("CARGO_PKG_VERSION"), commit: option_env!("MICROAGENT_COMMIT") };
    match (format, version.commit) {
        (Format::Json, _) => json(&version),
        (Format::Text, Some(commit)) => data(&format!("microagent {} ({commit})", version.version)),
        (Format::Text, None) => data(&format!("microagent {}", version.version)),
    }
    Exit::Success
}

/// How something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    Doubtful,
    Bad,
}

/// A mark before a line of data. Colour only stresses what the mark says, and only for people.
pub(crate) fn mark(mark: Mark) -> String {
    let (sign, colour) = match mark {
        Mark::Good => ('✓', 32),
        Mark::Doubtful => ('⚠', 33),
        Mark::Bad => ('✗', 31),
    };
    if wants_colour() { format!("\x1b[{colour}m{sign}\x1b[0m") } else { sign.to_string() }
}

/// Whether standard output is a terminal whose user has nothing against colours (no-color.org).
fn wants_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !is_set("NO_COLOR") && !is_dumb && std::io::stdout().is_terminal()
}

/// The text with its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_fits_by_what_its_widest_columns_give() {
        let mut widths = [10, 60, 30, 5];
        super::fit(&mut widths, 80);
        assert_eq!(widths.iter().sum::<usize>() + 6, 80);
        assert_eq!((widths[0], widths[3]), (10, 5), "{widths:?}");
        let mut narrow = [8, 8, 8];
        super::fit(&mut narrow, 10);
        assert_eq!(narrow, [8, 8, 8], "a column of dots tells nothing");
        let mut seven = [20, 30, 8, 8, 10, 6, 6];
        super::fit(&mut seven, 40);
        assert_eq!(seven, [4; 7]);
        assert_eq!((super::cut("images", 6), super::cut("images", 4)), ("images".into(), "ima…".into()));
    }

    #[test]
    fn sizes_are_decimal_like_dockers() {
        assert_eq!(super::size(999), "999 B");
        assert_eq!(super::size(1500), "1.5 kB");
        assert_eq!(super::size(476_000_000), "476.0 MB");
    }
}
