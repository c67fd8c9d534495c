//! The testbed on a real kernel: up, down, names, programs, repair; as a plain user and as root.

mod common;

use common::{Lab, Machine, User};

for_each_user! {
    fn a_fresh_lab_passes_the_checks_of_step_0(user: User) {
        let lab = Lab::up(user);
        let done = lab.lab(&["check"]).ok();
        assert_eq!(done.stdout.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{}", done.stdout);
    }

    fn the_exit_code_is_the_commands_own(user: User) {
        let lab = Lab::up(user);
        lab.sh("useru", "exit 7").expect(7);
        lab.sh("useru", "kill -9 $$").expect(137);
        lab.exec("useru", &["no-such-command"]).expect(127);
        lab.exec("nowhere", &["true"]).expect(2);
    }
}

#[test]
fn a_lab_that_is_not_up_is_said_to_be_so() {
    let machine = Machine::new(User::Plain);
    let done = machine.vpnlab(&["lab", "--lab", "nothing-here", "check"]).expect(1);
    assert_eq!(done.stderr, "vpnlab: lab nothing-here is not up; bring it up: vpnlab lab up --lab nothing-here\n");
}
