//! The word that was probably meant.

/// Further apart than this, as a part of the longer word, is another word.
const CLOSE: f64 = 0.34;

/// The closest of `words` to `typed`, if any is close.
pub(super) fn to(typed: &str, words: impl Iterator<Item = String>) -> Option<String> {
    let typed: Vec<char> = typed.chars().take(64).collect();
    let distance = |word: &String| {
        let word: Vec<char> = word.chars().collect();
        #[expect(clippy::cast_precision_loss, reason = "words are short")]
        let share = edits(&typed, &word) as f64 / typed.len().max(word.len()).max(1) as f64;
        share
    };
    let ranked = words.map(|word| (distance(&word), word)).filter(|(distance, _)| *distance <= CLOSE);
    ranked.min_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, word)| word)
}

/// How many letters are to be changed, added, removed or swapped with the next to make one of the other.
fn edits(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, candidate) in other.iter().enumerate() {
            let mut least = (row[j] + usize::from(letter != candidate)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *letter == other[j - 1] && one[i - 1] == *candidate {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::to;

    #[test]
    fn slips_are_close_and_other_words_are_not() {
        let words =
            || ["run", "restart", "start", "status", "memory", "memory-x"].into_iter().map(str::to_owned);
        for (typed, meant) in
            [("rum", "run"), ("rnu", "run"), ("statsu", "status"), ("memroy", "memory"), ("strat", "start")]
        {
            assert_eq!(to(typed, words()).as_deref(), Some(meant), "{typed}");
        }
        for other in ["frobnicate", "", "x"] {
            assert_eq!(to(other, words()), None, "{other}");
        }
    }
}
