//! Words as a shell takes them.

/// The words as one line for a shell.
pub(crate) fn line<T: AsRef<str>>(words: &[T]) -> String {
    words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// One word for a shell: quoted where it has to be, with control characters made harmless.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+^".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", crate::output::printable(word).replace('\'', r"'\''"))
}

/// The words of a line, as a shell takes them apart; enough for lines made by [`line`].
#[cfg(test)]
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if !quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_back() {
        for typed in [&["run", "a b", "it's", ""][..], &["$HOME", "x;y", "--env=A B"]] {
            assert_eq!(words(&line(typed)), typed);
        }
        assert_eq!(line(&["run", "-p", "80:80", "debian:12"]), "run -p 80:80 debian:12");
        assert_eq!(quoted("a\x1b[0m"), "'a\\u{1b}[0m'");
    }
}
