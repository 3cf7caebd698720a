//! Where the game's program is.

use std::env::{self, consts::EXE_SUFFIX};
use std::path::{Path, PathBuf};

use super::Game;

/// The environment variable that names the game's program where it is not beside the lobby.
pub const GAME_VARIABLE: &str = "PEERFLOCK_GAME";

/// What there is of a game on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its program.
    Program(PathBuf),
    /// Its source: the lobby was started by cargo in the same checkout.
    Buildable {
        /// The cargo that started us.
        cargo: PathBuf,
        /// Our own manifest's directory, from which cargo finds the workspace.
        manifest: PathBuf,
    },
    /// Nothing.
    Nothing {
        /// What to do about it.
        advice: String,
    },
}

/// Looks for `game` beside our own program, then where [`GAME_VARIABLE`] says, then for a checkout to build it from.
pub fn find(game: Game) -> Found {
    let named = env::var_os(GAME_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let cargo = env::var_os("CARGO").map(PathBuf::from).zip(env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from));
    choose(game, env::current_exe().ok().as_deref(), named, cargo)
}

fn choose(game: Game, own: Option<&Path>, named: Option<PathBuf>, cargo: Option<(PathBuf, PathBuf)>) -> Found {
    let program = format!("{}{EXE_SUFFIX}", game.program);
    let beside = own.and_then(Path::parent).map(|directory| directory.join(&program)).filter(|path| path.is_file());
    if let Some(path) = beside {
        return Found::Program(path);
    }
    if let Some(path) = named {
        return if path.is_file() {
            Found::Program(path)
        } else {
            Found::Nothing { advice: format!("{GAME_VARIABLE} names {}, where no program is. Correct it.", path.display()) }
        };
    }
    match cargo {
        Some((cargo, manifest)) => Found::Buildable { cargo, manifest },
        None => Found::Nothing {
            advice: format!(
                "In a checkout of Peerflock, run `cargo build -p {}`; elsewhere, put {program} beside the lobby or set {GAME_VARIABLE}.",
                game.program
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAME: Game = Game { name: "fish", program: "fish-game", password_variable: "FISH_PASSWORD" };

    #[test]
    fn beside_us_comes_first_then_the_variable_then_cargo() {
        let directory = env::temp_dir().join(format!("peerflock-find-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let own = directory.join("lobby");
        let (beside, elsewhere) = (directory.join(format!("fish-game{EXE_SUFFIX}")), directory.join("elsewhere"));
        std::fs::write(&elsewhere, "").unwrap();
        let cargo = Some((PathBuf::from("cargo"), PathBuf::from("lobby")));

        let named = choose(GAME, Some(&own), Some(elsewhere.clone()), cargo.clone());
        assert_eq!(named, Found::Program(elsewhere.clone()));
        assert!(matches!(choose(GAME, Some(&own), None, cargo.clone()), Found::Buildable { .. }));
        assert!(
            matches!(choose(GAME, Some(&own), None, None), Found::Nothing { advice } if advice.contains("cargo build -p fish-game"))
        );
        let wrong = choose(GAME, Some(&own), Some(directory.join("nowhere")), cargo.clone());
        assert!(matches!(wrong, Found::Nothing { advice } if advice.contains(GAME_VARIABLE)), "a wrong variable is not ignored");

        std::fs::write(&beside, "").unwrap();
        assert_eq!(choose(GAME, Some(&own), Some(elsewhere), cargo), Found::Program(beside));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
