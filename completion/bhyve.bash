# bash completion for bhyve(8)

_bhyve()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local bhyve=${COMP_WORDS[0]} words

	compopt +o nospace
	case $prev in
	-k | -r)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames
		;;
	-l)
		# com1,BACKEND: the second word is one of a few, or a path.
		case $cur in
		*,*)
			words="stdio pty nmdm: socket, tcp="
			mapfile -t COMPREPLY < <(compgen -P "${cur%%,*}," \
			    -W "$words" -- "${cur#*,}")
			;;
		*)
			words=$("$bhyve" -l help 2>/dev/null)
			mapfile -t COMPREPLY < <(compgen -S , -W "$words" \
			    -- "$cur")
			;;
		esac
		compopt -o nospace
		;;
	-s)
		case $cur in
		*,*)
			words=$("$bhyve" -s help 2>/dev/null)
			mapfile -t COMPREPLY < <(compgen -P "${cur%%,*}," \
			    -W "$words" -- "${cur#*,}")
			;;
		esac
		;;
	-o)
		words="name= cpus= sockets= cores= threads= memory.size=
		    memory.wired= memory.hugepages= memory.guest_in_core=
		    engine= cpu= jit.cache_size= jit.chain= jit.native=
		    jit.dump= jit.perf_map= statistics= acpi_tables= config.dump= rtc.use_localtime= uuid=
		    boot.kernel= boot.protocol= boot.cmdline= boot.initrd=
		    boot.modules= x86.mptable= x86.strictio= x86.strictmsr=
		    x86.vmexit_on_pause= x86.x2apic= lpc.com1.path="
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		compopt -o nospace
		;;
	-[BcfGKmnpU])
		COMPREPLY=()
		;;
	*)
		case $cur in
		-*)
			words=$("$bhyve" -h 2>/dev/null |
			    sed -n 's/^       \(-.\): .*/\1/p')
			mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
			;;
		esac
		;;
	esac
}

# Behind a "=" there may be a path, which is what bash completes by itself.
complete -o default -F _bhyve bhyve
