// The instruction sets to check: those that this machine has, of the ones named by a program's arguments.
#pragma once
#include <string>
#include <vector>

#include "isa.h"

namespace mull {

inline std::vector<const Isa*> chosen_sets(int count, char** names) {
#if defined(__x86_64__)
    const Isa* const all[] = {&avx512, &avx_vnni, &avx2, &baseline};
#elif defined(__aarch64__)
    const Isa* const all[] = {&neon, &baseline};
#else
    const Isa* const all[] = {&baseline};
#endif
    std::vector<const Isa*> sets;
    for (const Isa* isa : all) {
        bool wanted = count == 1;
        for (int i = 1; i < count; i++) wanted |= names[i] == std::string(isa->name);
        if (wanted && isa->supported()) sets.push_back(isa);
    }
    return sets;
}

}  // namespace mull
