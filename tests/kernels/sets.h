// The instruction sets to check: those that this machine has, of the ones named by a program's arguments.
#pragma once
#include <string>
#include <vector>

#include "isa.h"
#include "mull.h"

namespace mull {

inline bool is_chosen(const char* set, int count, char** names) {
    bool wanted = count == 1;
    for (int i = 1; i < count; i++) wanted |= names[i] == std::string(set);
    return wanted;
}

inline std::vector<const Isa*> chosen_sets(int count, char** names) {
    std::vector<const Isa*> sets;
    for (const Isa* isa : kIsas)
        if (is_chosen(isa->name, count, names) && isa->supported()) sets.push_back(isa);
    return sets;
}

// The same by their numbers in mull.h.
inline std::vector<int> chosen_indices(int count, char** names) {
    std::vector<int> sets;
    for (int isa = 0; mull_isa(isa); isa++)
        if (is_chosen(mull_isa(isa), count, names) && mull_supported(isa)) sets.push_back(isa);
    return sets;
}

}  // namespace mull
