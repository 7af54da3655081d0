//! The host's end: it has two guests measure in turn, and prints medians.

#![expect(clippy::print_stdout, reason = "what is measured is what it is for")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::services::{self, Ports};

/// How long an act may take.
const PATIENCE: Duration = Duration::from_secs(60);

const MEBIBYTES: u32 = 64;

/// Something that is measured.
struct Row {
    title: &'static str,
    what: &'static str,
    amount: u32,
    streams: u32,
    port: u16,
}

/// One end of the comparison.
struct Guest {
    name: String,
    control: BufReader<TcpStream>,
}

/// What an act took; milliseconds by this host's clock, or microseconds by the guest's, held against it.
struct Took {
    whole: f64,
    median: f64,
    late: f64,
    lost: f64,
}

/// Waits for both guests, has each measure each row so many times, and prints it all.
pub(crate) fn measure(pairs: usize) -> io::Result<()> {
    let ports = services::start()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("control port {}", listener.local_addr()?.port());
    let mut guests = [Guest::arrived(&listener)?, Guest::arrived(&listener)?];
    guests.sort_by(|one, other| other.name.cmp(&one.name));
    let [ours, other] = &mut guests;
    println!("{pairs} pairs, medians: {}, {}, ratio", ours.name, other.name);
    for row in rows(&ports) {
        let mut took: [Vec<Took>; 2] = [Vec::new(), Vec::new()];
        // The first of each warms up.
        for pair in 0..=pairs {
            let pair_took = [ours.act(&row)?, other.act(&row)?];
            if pair > 0 {
                took.iter_mut().zip(pair_took).for_each(|(all, one)| all.push(one));
            }
        }
        print(&row, &took);
    }
    Ok(())
}

fn rows(ports: &Ports) -> Vec<Row> {
    let row = |title, what, amount, streams, port| Row { title, what, amount, streams, port };
    let bytes = MEBIBYTES << 20;
    vec![
        row("guest to host, 1 stream", "send", bytes, 1, ports.sink),
        row("guest to host, 16 streams", "send", bytes, 16, ports.sink),
        row("host to guest, 1 stream", "receive", bytes, 1, ports.source),
        row("host to guest, 16 streams", "receive", bytes, 16, ports.source),
        row("TCP connect and close", "connect", 200, 1, ports.door),
        row("a byte and its answer over TCP", "echo", 500, 1, ports.echo),
        row("a datagram and its answer", "datagram", 500, 1, ports.datagrams),
        row("a question for a name", "name", 200, 1, 53),
    ]
}

impl Guest {
    fn arrived(listener: &TcpListener) -> io::Result<Self> {
        let begin = Instant::now();
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut control = BufReader::new(stream);
        let mut name = String::new();
        control.read_line(&mut name)?;
        Ok(Self { name: name.trim().to_owned(), control })
    }

    fn act(&mut self, row: &Row) -> io::Result<Took> {
        let begin = Instant::now();
        writeln!(self.control.get_mut(), "{} {} {} {}", row.what, row.amount, row.streams, row.port)?;
        let mut answer = String::new();
        self.control.read_line(&mut answer)?;
        let whole = begin.elapsed().as_secs_f64();
        let numbers: Vec<f64> = answer.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [guest, median, late, lost] = numbers[..] else {
            return Err(io::Error::other(format!("{} answered `{}`", self.name, answer.trim())));
        };
        // A guest's clock may run at another pace.
        let pace = whole / (guest / 1e9);
        let micros = |nanos: f64| nanos * pace / 1e3;
        Ok(Took { whole: whole * 1e3, median: micros(median), late: micros(late), lost })
    }
}

fn print(row: &Row, took: &[Vec<Took>; 2]) {
    let of = |value: fn(&Took) -> f64| took.each_ref().map(|all| median(all.iter().map(value).collect()));
    if row.what == "send" || row.what == "receive" {
        let [ours, other] = of(|took| took.whole).map(|millis| f64::from(MEBIBYTES) * 1e3 / millis);
        println!("{:<34}{ours:>9.0} {other:>9.0} MiB/s {:>6.2}", row.title, ours / other);
        return;
    }
    for (label, value) in [("median", (|took| took.median) as fn(&Took) -> f64), ("99 %", |took| took.late)] {
        let [ours, other] = of(value);
        println!("{:<34}{ours:>9.0} {other:>9.0} µs    {:>6.2}  {label}", row.title, ours / other);
    }
    let lost: Vec<f64> = took.iter().map(|all| all.iter().map(|took| took.lost).sum()).collect();
    if lost.iter().any(|lost| *lost > 0.0) {
        println!("{:<34}{:>9} {:>9} lost", "", lost[0], lost[1]);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}
