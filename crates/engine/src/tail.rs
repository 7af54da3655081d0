//! The last words of something that may say any amount.

/// How Linux begins to say that it gives up; kernel/panic.c.
const PANIC: &str = "Kernel panic - not syncing";

/// Keeps the end of a stream of bytes, in bounded memory.
#[derive(Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    keep: usize,
}

impl Tail {
    /// Keeps at least the last `keep` bytes, and at most twice as many.
    pub fn new(keep: usize) -> Self {
        Self { bytes: Vec::new(), keep }
    }

    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * self.keep {
            self.bytes.drain(..self.bytes.len() - self.keep);
        }
    }

    /// What is kept.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// The last `count` lines that are not empty, without control characters, oldest first. After a kernel's
    /// panic, the line that says so, since what follows it is registers.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        if let Some(panic) = text.lines().find(|line| line.contains(PANIC)) {
            return vec![printable(panic)];
        }
        let mut lines: Vec<String> =
            text.lines().rev().map(printable).filter(|line| !line.trim().is_empty()).take(count).collect();
        lines.reverse();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_in_bounded_memory() {
        let mut tail = Tail::new(16);
        for number in 0..1000 {
            tail.push(format!("line {number}\n").as_bytes());
            assert!(tail.bytes.len() <= 32 + 9);
        }
        assert_eq!(tail.last_lines(1), ["line 999"]);
    }

    #[test]
    fn a_panic_is_what_counts() {
        let mut tail = Tail::new(1000);
        tail.push(b"[1.0] Kernel panic - not syncing: sysrq\n[1.0] RIP: 0033\n[1.1] Rebooting\n");
        assert_eq!(tail.last_lines(1), ["[1.0] Kernel panic - not syncing: sysrq"]);
    }

    #[test]
    fn lines_come_without_control_characters() {
        let mut tail = Tail::new(100);
        tail.push(b"\x1b[31mred\r\n\n\xff\n");
        assert_eq!(tail.last_lines(5), ["[31mred", "\u{fffd}"]);
    }
}
