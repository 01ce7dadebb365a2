package smalldisk

import "golang.org/x/sys/unix"

func mount(dir, options string, how way) error {
	flags := map[way]uintptr{again: unix.MS_REMOUNT, readOnly: unix.MS_RDONLY}
	return unix.Mount("tmpfs", dir, "tmpfs", flags[how], options)
}

func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }
