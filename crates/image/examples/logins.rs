//! Keeps, finds, lists and forgets a login: `logins CONFIG.JSON`. The stories run it where helpers need a `PATH` of its own.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;

use microagent_image::{Kept, Login, Logins};

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("one argument")?;
    let logins = Logins::in_file(file.into());
    if logins.find("a.io", "app")?.is_none() {
        println!("none");
    }
    if let Kept::Helper(name) = logins.keep("a.io", "me", "secret")? {
        println!("kept by {name}");
    }
    if let Some(Login::Password { user, .. }) = logins.find("a.io", "app")? {
        println!("found {user}");
    }
    for known in logins.list()? {
        println!("listed {} {}", known.registry, known.user.unwrap_or_default());
    }
    println!("forgotten {}", logins.forget("a.io")?);
    println!("forgotten {}", logins.forget("a.io")?);
    Ok(())
}
