# Makes system calls, each row of them in a process of its own; see trespass.py, which writes this.
#
# A line of the input is a row: calls with a tab between, words with a space between; the first word
# of a call is its number, or the name of something that is looked for. Prints a JSON object: number
# of the row to the errno of its last call (0: it succeeded), or to a text.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();

my %devices = map { $_ => (stat $_)[0] } grep { -e } map { ($_, "/dev/.carthage$_") } qw(/proc /sys);

sub word {    # a number; -N: result of the call N before; x: bytes; z: as many zeros
    my ($text, $results) = @_;
    return pack 'H*', substr $text, 1 if $text =~ /^x/;
    return "\0" x substr $text, 1 if $text =~ /^z/;
    return $results->[-substr $text, 1] if $text =~ /^r/;
    return 0 + $text;
}

sub holds {    # whether a file that a pattern names has a text
    my ($text, @patterns) = map { pack 'H*', $_ } @_;
    for my $path (map { glob } @patterns) {
        next if $path =~ m{/$$/};
        open my $file, '<', $path or next;
        local $/;
        my $content = <$file>;
        return 1 if defined $content && index($content, $text) >= 0;
    }
    return 0;
}

sub writable {    # whether a file may be written that is the kernel's; nothing is
    my $path = pack 'H*', $_[0];
    sysopen my $file, $path, O_WRONLY | O_NONBLOCK or return $! + 0;
    my $device = (stat $file)[0];
    return (grep { $_ == $device } values %devices) ? 0 : '"copy"';
}

sub settings {    # those that may be written below a folder, but for some
    my ($top, @own) = map { pack 'H*', $_ } @_;
    my $device = (stat $top)[0];
    my ($result, @folders) = ('', $top);
    while (defined(my $folder = shift @folders)) {
        opendir my $handle, $folder or next;
        for my $name (readdir $handle) {
            my $path = "$folder/$name";
            my ($there, undef, $mode) = lstat $path;
            next if $name =~ /^\.\.?$/ || !defined $there || $there != $device;
            next if $folder =~ m{/proc$} && $name =~ /^(\d+|self|thread-self)$/;
            next if grep { index($path, $_) == 0 } @own;
            push @folders, $path if ($mode & S_IFMT) == S_IFDIR;
            # to root, whatever is not on a file system that is read-only may look so
            next unless ($mode & S_IFMT) == S_IFREG && $mode & 0222 && -w $path;
            $result .= "$path " if POSIX::access($path, POSIX::W_OK());
        }
    }
    return $result eq '' ? '"nothing"' : "\"$result\"";
}

sub attempt {
    my @results;
    for my $call (@_) {
        my ($first, @words) = split / /, $call;
        return holds(@words) ? 0 : '"nothing"' if $first eq 'holds';
        return writable(@words) if $first eq 'writable';
        return settings(@words) if $first eq 'settings';
        my $is_optional = $first =~ s/\?$//;
        my @values = map { word($_, \@results) } @words;
        push @values, 0 while @values < 6;
        my $result = syscall $first, @values;
        return $! + 0 if $result == -1 && !$is_optional;
        push @results, $result;
    }
    return 0;
}

my %seen;
while (my $row = <STDIN>) {
    chomp $row;
    my $number = $. - 1;
    pipe my $near, my $far;
    my $pid = fork;
    if (!$pid) {
        alarm 10;
        syswrite $far, attempt(split /\t/, $row);
        POSIX::_exit(0);
    }
    close $far;
    $seen{$number} = join '', <$near>;
    waitpid $pid, 0;
    $seen{$number} = '"killed"' if $seen{$number} eq '';
}
print '{', join(', ', map {"\"$_\": $seen{$_}"} sort { $a <=> $b } keys %seen), "}\n";
